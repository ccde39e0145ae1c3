import { describe, expect, test } from 'vitest';
import { MAX_PIECES, MAX_WAITING_GAPS, OutputQueue } from '../../gateway/execution/output-queue.ts';
import { MAX_DATA_BYTES, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { startHeldBytes } from '../fakes/held-bytes.ts';

describe('output that waits for its reader', () => {
  /** Takes everything: pieces, and what each channel said. */
  function drain(queue: OutputQueue): { pieces: number; said: Record<number, number[]> } {
    const said: Record<number, number[]> = { 1: [], 2: [] };
    let pieces = 0;
    for (let taken = queue.shift(); taken; taken = queue.shift()) {
      pieces += 1;
      if ('bytes' in taken) said[taken.channel]?.push(...taken.bytes);
    }
    return { pieces, said };
  }

  test('keeps the order of two channels that take turns', () => {
    const queue = new OutputQueue();
    for (const [channel, byte] of [
      [1, 1],
      [2, 2],
      [1, 3],
      [1, 4],
    ] as const)
      queue.push(channel, Uint8Array.of(byte));
    const taken = [queue.shift(), queue.shift(), queue.shift(), queue.shift()];
    expect(taken).toEqual([
      { channel: 1, bytes: Uint8Array.of(1) },
      { channel: 2, bytes: Uint8Array.of(2) },
      { channel: 1, bytes: Uint8Array.of(3, 4) },
      undefined,
    ]);
  });

  test('is a bounded number of pieces, however often two channels take turns', () => {
    const queue = new OutputQueue();
    for (let at = 0; at < STREAM_WINDOW_BYTES; at += 1) queue.push(1 + (at % 2), Uint8Array.of(at % 251));
    expect(queue.bytes).toBe(STREAM_WINDOW_BYTES);
    const { pieces, said } = drain(queue);
    expect(pieces).toBeLessThan(MAX_PIECES + 16);
    const all = Array.from({ length: STREAM_WINDOW_BYTES }, (_, at) => at % 251);
    expect(said[1]).toEqual(all.filter((_, at) => at % 2 === 0));
    expect(said[2]).toEqual(all.filter((_, at) => at % 2 === 1));
    expect(queue.bytes).toBe(0);
  });

  test('keeps a gap behind what its channel said before and before what it said after', () => {
    const queue = new OutputQueue();
    for (let at = 0; at < MAX_PIECES; at += 1) queue.push(1 + (at % 2), Uint8Array.of(1));
    queue.pushGap({ channel: 1, from: 512, to: 600 });
    for (let at = 0; at < 10; at += 1) queue.push(1 + (at % 2), Uint8Array.of(2));
    const order: (number | 'gap')[] = [];
    for (let taken = queue.shift(); taken; taken = queue.shift())
      if (taken.channel === 1) order.push(...('bytes' in taken ? taken.bytes : ['gap' as const]));
    expect(order).toEqual([...Array(512).fill(1), 'gap', ...Array(5).fill(2)]);
  });

  test('takes as many gaps as may wait, and not one more', () => {
    const queue = new OutputQueue();
    const gap = (from: number) => queue.pushGap({ channel: 1 + (from % 2), from, to: from + 1 });
    for (let from = 0; from < MAX_WAITING_GAPS; from += 1) expect(gap(from)).toBe(true);
    expect(gap(MAX_WAITING_GAPS)).toBe(false);
    queue.shift();
    expect(gap(MAX_WAITING_GAPS)).toBe(true);
  });

  test('is all that is held: what was taken is not, by a reader who is never done', async () => {
    const queue = new OutputQueue();
    const heldBytes = startHeldBytes('arrayBuffers');
    for (let round = 0; round <= MAX_PIECES / 2; round += 1) {
      queue.push(1, new Uint8Array(MAX_DATA_BYTES));
      if (round > 0) queue.shift();
    }
    await expect.poll(heldBytes).toBeLessThan(STREAM_WINDOW_BYTES);
    expect(queue.bytes).toBe(MAX_DATA_BYTES);
  });
});
