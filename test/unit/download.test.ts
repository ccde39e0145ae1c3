import { describe, expect, test } from 'vitest';
import { DOWNLOAD_STALL_MS, downloadOf } from '../../gateway/files/download.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

function start(disconnect?: () => void) {
  const clock = createFakeClock();
  const bench = { cancelled: false, watched: 0 };
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      pull: (controller) => controller.enqueue(Uint8Array.of(1)),
      cancel() {
        bench.cancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
  const watch = () => {
    bench.watched += 1;
    return () => {
      bench.watched -= 1;
    };
  };
  const timers = {
    setTimeout: (run: () => void, ms: number) => clock.after(ms, run),
    clearTimeout: (stop: unknown) => (stop as (() => void) | undefined)?.(),
  };
  return { bench, clock, reader: downloadOf(body, { watch, timers, disconnect }).getReader() };
}

describe('a download', () => {
  test.for([0, 1])('of which nothing is taken after %i pieces lets go of its file', async (pieces) => {
    const { bench, clock, reader } = start();
    for (let piece = 0; piece < pieces; piece += 1) await reader.read();
    await clock.advance(DOWNLOAD_STALL_MS - 1);
    expect(bench.cancelled).toBe(false);
    await clock.advance(1);
    expect([bench, clock.pending]).toEqual([{ cancelled: true, watched: 0 }, 0]);
    await expect(reader.read()).rejects.toMatchObject({ code: 'reader_stalled' });
  });

  test('is cut, and not told as a fault, where its connection can be', async () => {
    let cuts = 0;
    const { bench, clock } = start(() => {
      cuts += 1;
    });
    await clock.advance(2 * DOWNLOAD_STALL_MS);
    expect([cuts, bench, clock.pending]).toEqual([1, { cancelled: true, watched: 0 }, 0]);
  });

  test('goes on as long as a slow reader takes something in time', async () => {
    const { bench, clock, reader } = start();
    for (let piece = 0; piece < 5; piece += 1) {
      await clock.advance(DOWNLOAD_STALL_MS - 1);
      expect((await reader.read()).done).toBe(false);
    }
    await reader.cancel();
    expect([bench, clock.pending]).toEqual([{ cancelled: true, watched: 0 }, 0]);
  });
});
