import { describe, expect, test } from 'vitest';
import { DOWNLOAD_STALL_MS, downloadOf } from '../../gateway/files/download.ts';
import { Downloads, MAX_DOWNLOADS_PER_HOLDER } from '../../gateway/files/downloads.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

type Pull = (controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>) => void | Promise<void>;

function start(disconnect?: () => void, pull?: Pull) {
  const clock = createFakeClock();
  const bench = { cancelled: false, watched: 0 };
  let denied: (failure: Error) => void = () => {};
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      pull: pull ?? ((controller) => controller.enqueue(Uint8Array.of(1))),
      cancel() {
        bench.cancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
  const watch = (onDenied: typeof denied) => {
    denied = onDenied;
    bench.watched += 1;
    return () => {
      bench.watched -= 1;
    };
  };
  const timers = {
    setTimeout: (run: () => void, ms: number) => clock.after(ms, run),
    clearTimeout: (stop: unknown) => (stop as (() => void) | undefined)?.(),
  };
  const reader = downloadOf(body, { watch, timers, disconnect }).getReader();
  return { bench, clock, reader, deny: (failure: Error) => denied(failure) };
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

  test('that has come whole keeps nothing', async () => {
    const { bench, clock, reader } = start(undefined, (controller) => controller.close());
    expect((await reader.read()).done).toBe(true);
    expect([bench, clock.pending]).toEqual([{ cancelled: false, watched: 0 }, 0]);
  });

  test('whose file cannot be read to its end fails, and keeps nothing', async () => {
    const { bench, clock, reader } = start(undefined, () => Promise.reject(new Error('shorter than it was')));
    await expect(reader.read()).rejects.toThrow('shorter than it was');
    expect([bench, clock.pending]).toEqual([{ cancelled: false, watched: 0 }, 0]);
  });

  test('whose key is revoked ends with that, also while its file is read', async () => {
    const { bench, clock, reader, deny } = start(undefined, () => new Promise(() => {}));
    const reading = reader.read();
    deny(new Error('revoked'));
    await expect(reading).rejects.toThrow('revoked');
    expect([bench, clock.pending]).toEqual([{ cancelled: true, watched: 0 }, 0]);
  });
});

test('a download that has ended makes room for one more, and for no second one where its end is told twice', () => {
  const downloads = new Downloads();
  const ends = Array.from({ length: MAX_DOWNLOADS_PER_HOLDER }, () => downloads.begin('acme/anna'));
  for (let times = 0; times < 2; times += 1) ends[0]?.();
  downloads.begin('acme/anna');
  expect(() => downloads.begin('acme/anna')).toThrow(/rate_limited/);
  downloads.begin('acme/bert');
});
