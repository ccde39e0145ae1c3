import { describe, expect, test } from 'vitest';
import type { Taken } from '../../gateway/execution/output-reader.ts';
import { bytesOf, checkFacts, filePart, takeFacts } from '../../gateway/sessions/file-answer.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import { MAX_JSON_COMMAS, MAX_JSON_DEPTH } from '../../shared/limits.ts';

const MAX_HEAD_BYTES = 4_194_304;
const encode = (text: string) => new TextEncoder().encode(text);

/** A run whose output comes in these pieces, each of so many bytes. */
function runOf(pieces: Iterable<Uint8Array>) {
  const iterator = pieces[Symbol.iterator]();
  return {
    abandoned: 0,
    onDismiss() {},
    abandon() {
      this.abandoned += 1;
    },
    next: async (): Promise<Taken> => {
      const { value, done } = iterator.next();
      if (done) throw new Error('nothing more comes');
      return { type: 'output', channel: CHANNEL.stdout, bytes: value } as Taken;
    },
  };
}

function* cut(text: Uint8Array, bytes: number) {
  for (let at = 0; at < text.byteLength; at += bytes) yield text.subarray(at, at + bytes);
}

const head = (value: unknown) => encode(`${JSON.stringify(value)}\n`);

describe('the facts of an answer about files', () => {
  test.each([1, 7, 65_536])(
    'are whole in pieces of %i bytes, and what comes behind them is the rest',
    async (bytes) => {
      const answer = new Uint8Array([...head({ ok: { size: 3, name: 'x'.repeat(100) } }), 1, 10, 2]);
      const { facts, rest } = await takeFacts(runOf(cut(answer, bytes)), 'a');
      expect(facts).toEqual({ size: 3, name: 'x'.repeat(100) });
      expect([1, 10, 2].slice(0, rest.byteLength)).toEqual([...rest]);
    },
  );

  test('of as many bytes as they may have, most of them single, take no longer for that', async () => {
    const answer = head({ ok: { name: 'x'.repeat(MAX_HEAD_BYTES - 18) } });
    expect(answer.byteLength).toBe(MAX_HEAD_BYTES + 1);
    const single = 500_000;
    function* pieces() {
      yield* cut(answer.subarray(0, -single), 65_536);
      yield* cut(answer.subarray(-single), 1);
    }
    const { facts } = await takeFacts(runOf(pieces()), 'a');
    expect((facts.name as string).length).toBe(MAX_HEAD_BYTES - 18);
  });

  test('of one byte more are none', async () => {
    const answer = head({ ok: { name: 'x'.repeat(MAX_HEAD_BYTES - 17) } });
    await expect(takeFacts(runOf(cut(answer, 65_536)), 'a')).rejects.toMatchObject({ code: 'sandbox_lost' });
  });

  test.each(['no JSON\n', '{}\n', '{"error":{}}\n'])(
    'of %j are none, and nothing of them goes on',
    async (line) => {
      const run = runOf([encode(line)]);
      await expect(takeFacts(run, 'a')).rejects.toMatchObject({ code: 'sandbox_lost' });
      expect(run.abandoned).toBe(1);
    },
  );
});

test('facts hold as many values and lists in each other as a request may, and none more', async () => {
  const values = (more: number) => JSON.stringify({ ok: { a: Array(MAX_JSON_COMMAS + 1 + more).fill(0) } });
  const deep = (more: number) => {
    const depth = MAX_JSON_DEPTH - 2 + more;
    return `{"ok":{"a":${'['.repeat(depth)}${']'.repeat(depth)}}}`;
  };
  for (const answer of [values, deep]) {
    const taken = takeFacts(runOf([encode(`${answer(0)}\n`)]), 'a');
    await expect(taken).resolves.toMatchObject({ facts: { a: expect.any(Array) } });
    const refused = takeFacts(runOf([encode(`${answer(1)}\n`)]), 'a');
    await expect(refused).rejects.toMatchObject({ code: 'sandbox_lost' });
  }
});

test.each(['constructor', 'toString', '__proto__', 'made-up'])(
  'a refusal by the code %s, which is none, is a conflict',
  async (code) => {
    const answer = takeFacts(runOf([head({ error: { code, detail: 'said inside' } })]), 'a');
    await expect(answer).rejects.toMatchObject({ code: 'conflict', detail: 'said inside' });
  },
);

describe('the bytes of a file', () => {
  /** What a reader gets that was told of `length` bytes, or of none, and how it ends. */
  async function readAll(pieces: string[], length: number | null, exitCode = 0, stdoutTruncated = false) {
    const run = runOf(pieces.slice(1).map(encode));
    const ended = { type: 'end', ending: { result: { exit_code: exitCode }, stdoutTruncated } } as Taken;
    const next = () => run.next().catch(() => ended);
    let got = '';
    try {
      const info = { disconnect: undefined } as unknown as Parameters<typeof bytesOf>[3];
      for await (const bytes of bytesOf({ ...run, next }, encode(pieces[0] ?? ''), length, info))
        got += new TextDecoder().decode(bytes);
    } catch (error) {
      return [got, (error as { code: string }).code];
    }
    return [got, 'whole'];
  }

  test('are never more than was told, whatever the sandbox says: the next answer of a connection stands there', async () => {
    expect(await readAll(['ab', 'c'], 3)).toEqual(['abc', 'whole']);
    expect(await readAll(['ab', 'c'], 4)).toEqual(['abc', 'sandbox_lost']);
    expect(await readAll(['ab', 'c', 'HTTP/1.1 200 OK'], 3)).toEqual(['ab', 'sandbox_lost']);
    expect(await readAll(['', 'abcHTTP/1.1 200 OK'], 3)).toEqual(['', 'sandbox_lost']);
    expect(await readAll(['abcHTTP/1.1 200 OK'], 3)).toEqual(['', 'sandbox_lost']);
  });

  test('are not whole where what sends them failed or was cut off, also where no length was told', async () => {
    expect(await readAll(['ab', 'c'], null)).toEqual(['abc', 'whole']);
    for (const [length, got] of [
      [3, 'ab'],
      [null, 'abc'],
    ] as const) {
      expect(await readAll(['ab', 'c'], length, 1)).toEqual([got, 'sandbox_lost']);
      expect(await readAll(['ab', 'c'], length, 0, true)).toEqual([got, 'sandbox_lost']);
    }
  });

  test.each([3, null])('with a hole in them are not whole, of %s bytes', async (length) => {
    const run = runOf([]);
    const next = async () => ({ type: 'gap', channel: CHANNEL.stdout, from: 1, to: 2 }) as unknown as Taken;
    const reader = bytesOf(Object.assign(run, { next }), encode('a'), length, {} as never).getReader();
    expect((await reader.read()).value).toEqual(encode('a'));
    await expect(reader.read()).rejects.toMatchObject({ code: 'sandbox_lost' });
  });

  test('that their reader leaves go on no more', async () => {
    const run = runOf([]);
    await bytesOf(run, encode('a'), 3, {} as never).cancel();
    expect(run.abandoned).toBe(1);
  });

  test.each([
    { start: 0, end: '3\r\nX: y', size: 3 },
    { start: 0, end: 1.5, size: 3 },
    { start: 2, end: 1, size: 3 },
    { start: 0, end: 4, size: 3 },
    { start: -1, end: 3, size: 3 },
    { start: 0, end: 2 ** 53, size: 2 ** 53 },
    {},
  ])('are no part of a file where the facts are %j', (facts) => {
    const run = runOf([]);
    expect(() => checkFacts(filePart, facts, run)).toThrow(expect.objectContaining({ code: 'sandbox_lost' }));
    expect(run.abandoned).toBe(1);
  });
});
