import { expect, test } from 'vitest';
import { createTypedInput, MAX_TYPED_BYTES } from '../../cli/typed-input.ts';
import { createTypedKeys } from '../../cli/typed-keys.ts';
import type { Terminal } from '../../client/podgate.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

function terminal(inputOffset: number) {
  const got = { text: '' };
  const state = { input_offset: inputOffset };
  const write = (piece: Uint8Array) => {
    got.text += new TextDecoder().decode(piece);
  };
  return { got, terminal: { state, write } as unknown as Terminal };
}

test('what was lost with a connection, or typed without one, is sent over the next, once', () => {
  const typed = createTypedInput();
  const first = terminal(0);
  typed.attach(first.terminal);
  typed.push(bytes('abcdef'));
  typed.detach();
  typed.push(bytes('ghi'));
  const second = terminal(4);
  typed.attach(second.terminal);
  expect(typed.lost).toBe(0);
  typed.push(bytes('jkl'));
  expect([first.got.text, second.got.text]).toEqual(['abcdef', 'efghijkl']);
  const third = terminal(12);
  typed.attach(third.terminal);
  expect(third.got.text).toBe('');
});

test('MAX_TYPED_BYTES wait for a connection, and not one more', () => {
  const typed = createTypedInput();
  typed.push(new Uint8Array(MAX_TYPED_BYTES).fill(97));
  typed.push(bytes('b'));
  const next = terminal(0);
  typed.attach(next.terminal);
  expect(typed.lost).toBe(1);
  expect(next.got.text).toBe('a'.repeat(MAX_TYPED_BYTES));
});

test('what is too much to be kept is lost with its connection, and nothing behind it is sent twice', () => {
  const typed = createTypedInput();
  typed.attach(terminal(0).terminal);
  typed.push(bytes('lost'));
  typed.push(new Uint8Array(MAX_TYPED_BYTES).fill(97));
  const second = terminal(1);
  // The program has had one of the four.
  typed.attach(second.terminal);
  expect(typed.lost).toBe(3);
  expect(second.got.text).toBe('a'.repeat(MAX_TYPED_BYTES));
  const third = terminal(1 + MAX_TYPED_BYTES);
  typed.attach(third.terminal);
  expect(typed.lost).toBe(3);
  typed.push(bytes('next'));
  expect(third.got.text).toBe('next');
});

test('a tilde and a dot leave at the beginning of a line alone, two tildes are one', () => {
  const run = (...pieces: string[]) => {
    const keys = createTypedKeys();
    let text = '';
    for (const piece of pieces) {
      const { bytes: passed, leaves } = keys.push(bytes(piece));
      text += new TextDecoder().decode(passed);
      if (leaves) return `${text}!`;
    }
    return text;
  };
  expect(run('~.')).toBe('!');
  expect(run('ls\r~', '.')).toBe('ls\r!');
  expect(run('a~.')).toBe('a~.');
  expect(run('~~.')).toBe('~.');
  expect(run('\r~x~.')).toBe('\r~x~.');
  expect(run('~')).toBe('');
});
