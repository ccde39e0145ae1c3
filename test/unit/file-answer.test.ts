import { describe, expect, test } from 'vitest';
import type { Taken } from '../../gateway/execution/output-reader.ts';
import { takeFacts } from '../../gateway/sessions/file-answer.ts';
import { CHANNEL } from '../../shared/frame-type.ts';

const MAX_HEAD_BYTES = 4_194_304;
const encode = (text: string) => new TextEncoder().encode(text);

/** A run whose output comes in these pieces, each of so many bytes. */
function runOf(pieces: Iterable<Uint8Array>) {
  const iterator = pieces[Symbol.iterator]();
  return {
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
});
