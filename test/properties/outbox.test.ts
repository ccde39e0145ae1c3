import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TYPE } from '../../shared/frame-type.ts';
import {
  LINK_ACK_BYTES,
  LINK_WINDOW_BYTES,
  MAX_CONTROL_BYTES,
  MAX_CONTROL_WAITING,
  MAX_CONTROL_WAITING_BYTES,
  MAX_DATA_BYTES,
  STREAM_WINDOW_BYTES,
} from '../../shared/limits.ts';
import { Outbox } from '../../shared/outbox.ts';
import { startHeldBytes } from '../fakes/held-bytes.ts';

const EMPTY = new Uint8Array();

type Step =
  | { do: 'data'; stream: number; channel: 1 | 2; bytes: number }
  | { do: 'end'; stream: number }
  | { do: 'control' }
  | { do: 'grant'; stream: number; bytes: number }
  | { do: 'acknowledge'; share: number }
  | { do: 'send'; frames: number };

const streams = fc.integer({ min: 1, max: 4 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({
      do: fc.constant('data' as const),
      stream: streams,
      channel: fc.constantFrom(1 as const, 2 as const),
      bytes: fc.oneof(fc.integer({ min: 0, max: 5_000 }), fc.integer({ min: 0, max: 100_000 })),
    }),
    fc.record({ do: fc.constant('end' as const), stream: streams }),
    fc.record({ do: fc.constant('control' as const) }),
    fc.record({
      do: fc.constant('grant' as const),
      stream: streams,
      bytes: fc.integer({ min: 0, max: 90_000 }),
    }),
    fc.record({ do: fc.constant('acknowledge' as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.record({ do: fc.constant('send' as const), frames: fc.integer({ min: 1, max: 20 }) }),
  ),
  { maxLength: 120 },
);

describe('an outbox', () => {
  /** What lies from a position of a channel on, so that each byte tells its place. */
  const bytesAt = (from: number, length: number) =>
    Uint8Array.from({ length }, (_, index) => (from + index) % 251);

  test('never sends more than stream and link allow, keeps order, and puts control first', () => {
    fc.assert(
      fc.property(steps, (script) => {
        const streamWindow = 60_000;
        const linkWindow = 200_000;
        const linkInFlight = 80_000;
        const outbox = new Outbox({ streamWindow, linkWindow, linkInFlight });
        const limits = new Map([1, 2, 3, 4].map((stream) => [stream, streamWindow]));
        const sent = new Map<number, number>();
        const queued = new Map<number, number>();
        const offsets = new Map<string, number>();
        const lengths = new Map<string, number>();
        let counter = 0;
        let controls = 0;
        let linkSent = 0;
        let acknowledged = 0;
        for (const stream of limits.keys()) outbox.open(stream);

        const take = (): boolean => {
          const frame = outbox.next();
          if (!frame) return false;
          const size = frame.body.byteLength;
          if (frame.type === TYPE.DATA) {
            expect(controls).toBe(0);
            const key = `${frame.stream}/${frame.channel}`;
            expect(frame.sequence).toBe(offsets.get(key) ?? 0);
            expect(Buffer.from(frame.body).equals(bytesAt(frame.sequence, size))).toBe(true);
            expect(size).toBeGreaterThan(0);
            expect(size).toBeLessThanOrEqual(MAX_DATA_BYTES);
            offsets.set(key, frame.sequence + size);
            sent.set(frame.stream, (sent.get(frame.stream) ?? 0) + size);
            linkSent += size;
            expect(sent.get(frame.stream)).toBeLessThanOrEqual(limits.get(frame.stream) as number);
            expect(linkSent - acknowledged).toBeLessThanOrEqual(linkInFlight);
          } else if (frame.type === TYPE.END) {
            expect(frame.sequence).toBe(offsets.get(`${frame.stream}/1`) ?? 0);
          } else {
            controls -= 1;
            counter += 1;
            expect(frame.sequence).toBe(counter);
          }
          return true;
        };

        for (const step of script) {
          if (step.do === 'data') {
            const key = `${step.stream}/${step.channel}`;
            const from = lengths.get(key) ?? 0;
            lengths.set(key, from + step.bytes);
            outbox.data(step.stream, step.channel, bytesAt(from, step.bytes));
            queued.set(step.stream, (queued.get(step.stream) ?? 0) + step.bytes);
          } else if (step.do === 'end') outbox.behind(step.stream, TYPE.END, 1, EMPTY);
          else if (step.do === 'control') {
            outbox.control(TYPE.HEARTBEAT, 0, EMPTY);
            controls += 1;
          } else if (step.do === 'grant') {
            const limit = (limits.get(step.stream) as number) + step.bytes;
            limits.set(step.stream, limit);
            expect(outbox.grant(step.stream, limit)).toBe(true);
          } else if (step.do === 'acknowledge') {
            acknowledged += Math.floor((linkSent - acknowledged) * step.share);
            expect(outbox.grantLink(acknowledged + linkWindow)).toBe(true);
          } else for (let n = 0; n < step.frames && take(); n += 1);
          for (const [stream, limit] of limits)
            expect(outbox.room(stream)).toBe(Math.max(0, limit - (queued.get(stream) ?? 0)));
        }
        // With room for all of it, all of it goes.
        for (const stream of limits.keys()) {
          limits.set(stream, 1e9);
          outbox.grant(stream, 1e9);
        }
        for (;;) {
          while (take());
          if (linkSent === acknowledged) break;
          acknowledged = linkSent;
          outbox.grantLink(acknowledged + linkWindow);
        }
        expect(outbox.empty).toBe(true);
        for (const [stream, bytes] of queued) expect(sent.get(stream) ?? 0).toBe(bytes);
      }),
      { numRuns: 300 },
    );
  });

  test('serves streams in turn: none is two frames behind another that had as much to send', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 20 }), fc.integer({ min: 1, max: 6 }), (count, frames) => {
        const outbox = new Outbox({
          linkWindow: Number.MAX_SAFE_INTEGER,
          linkInFlight: Number.MAX_SAFE_INTEGER,
        });
        for (let stream = 1; stream <= count; stream += 1) {
          outbox.open(stream);
          outbox.data(stream, 1, new Uint8Array(frames * MAX_DATA_BYTES));
        }
        const served = new Map<number, number>();
        for (let frame = outbox.next(); frame; frame = outbox.next()) {
          served.set(frame.stream, (served.get(frame.stream) ?? 0) + 1);
          const counts = Array.from({ length: count }, (_, index) => served.get(index + 1) ?? 0);
          expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
        }
      }),
    );
  });

  test('keeps EXIT behind its own data only, and forgets the stream with it', () => {
    const outbox = new Outbox({ streamWindow: 10 });
    outbox.open(1);
    outbox.open(2);
    outbox.data(1, 1, new Uint8Array(15));
    outbox.behind(1, TYPE.EXIT, 0, EMPTY);
    outbox.behind(2, TYPE.EXIT, 0, EMPTY);
    expect(outbox.next()).toMatchObject({ type: TYPE.DATA, stream: 1 });
    expect(outbox.next()).toMatchObject({ type: TYPE.EXIT, stream: 2 });
    expect(outbox.next()).toBeUndefined();
    outbox.grant(1, 15);
    expect(outbox.next()).toMatchObject({ type: TYPE.DATA, stream: 1, sequence: 10 });
    expect(outbox.next()).toMatchObject({ type: TYPE.EXIT, stream: 1 });
    expect(outbox.next()).toBeUndefined();
    expect(outbox.empty).toBe(true);
  });

  test('lets no END, EXIT or gap wait for the link credit that data of other streams waits for', () => {
    const outbox = new Outbox({ linkWindow: 10 });
    for (const stream of [1, 2, 3, 4, 5]) outbox.open(stream);
    outbox.data(1, 1, new Uint8Array(15));
    outbox.data(2, 1, new Uint8Array(2));
    expect(outbox.next()).toMatchObject({ type: TYPE.DATA, stream: 1 });
    expect(outbox.held).toBe(true);
    outbox.behind(3, TYPE.END, 1, EMPTY);
    outbox.behind(2, TYPE.EXIT, 0, EMPTY);
    outbox.gap(4, 1, 8, EMPTY);
    outbox.data(4, 1, new Uint8Array(1));
    outbox.behind(5, TYPE.EXIT, 0, EMPTY);
    outbox.behind(3, TYPE.EXIT, 0, EMPTY);
    outbox.close(1);
    expect(outbox.next()).toMatchObject({ type: TYPE.END, stream: 3 });
    expect(outbox.next()).toMatchObject({ type: TYPE.REPLAY_GAP, stream: 4 });
    expect(outbox.next()).toMatchObject({ type: TYPE.EXIT, stream: 5 });
    expect(outbox.next()).toMatchObject({ type: TYPE.EXIT, stream: 3 });
    expect(outbox.next()).toBeUndefined();
    expect(outbox.grantLink(20)).toBe(true);
    expect(outbox.next()).toMatchObject({ type: TYPE.DATA, stream: 2 });
    expect(outbox.next()).toMatchObject({ type: TYPE.DATA, stream: 4, sequence: 8 });
    expect(outbox.next()).toMatchObject({ type: TYPE.EXIT, stream: 2 });
    expect(outbox.empty).toBe(true);
    expect(outbox.held).toBe(false);
  });

  test('gives each stream its turn whether data is next on it or an END', () => {
    const outbox = new Outbox({ linkWindow: Number.MAX_SAFE_INTEGER, linkInFlight: Number.MAX_SAFE_INTEGER });
    for (const stream of [1, 2, 3]) outbox.open(stream);
    for (let each = 0; each < 2; each += 1) {
      outbox.data(1, 1, new Uint8Array(MAX_DATA_BYTES));
      outbox.behind(2, TYPE.END, 1, EMPTY);
      outbox.data(3, 1, new Uint8Array(MAX_DATA_BYTES));
    }
    const turns = Array.from({ length: 6 }, () => outbox.next()?.stream);
    expect(turns).toEqual([1, 2, 3, 1, 2, 3]);
  });

  test('drops what a closed stream had queued, and sends the rest', () => {
    const outbox = new Outbox();
    outbox.open(1);
    outbox.open(2);
    outbox.data(1, 1, new Uint8Array(5));
    outbox.data(2, 1, new Uint8Array(5));
    outbox.close(1);
    expect(outbox.next()).toMatchObject({ stream: 2 });
    expect(outbox.next()).toBeUndefined();
  });

  test('makes no frame of no bytes: whoever gets one ends the link', () => {
    const outbox = new Outbox();
    outbox.open(1);
    outbox.data(1, 1, EMPTY);
    expect([outbox.empty, outbox.next()]).toEqual([true, undefined]);
    for (const bytes of [MAX_DATA_BYTES, 0, MAX_DATA_BYTES]) outbox.data(1, 1, new Uint8Array(bytes));
    const sizes = [outbox.next(), outbox.next(), outbox.next()].map((frame) => frame?.body.byteLength);
    expect(sizes).toEqual([MAX_DATA_BYTES, MAX_DATA_BYTES, undefined]);
  });

  test('makes of small data that waits as few frames as it can, and of its window as few objects', () => {
    const outbox = new Outbox({ streamWindow: 10_000 });
    outbox.open(1);
    const write = (from: number, to: number, channel: 1 | 2 = 1) => {
      for (let at = from; at < to; at += 1) outbox.data(1, channel, bytesAt(at, 1));
    };
    write(0, 10_010);
    expect(outbox.next()).toMatchObject({ sequence: 0, body: bytesAt(0, 10_000) });
    expect(outbox.next()).toBeUndefined();
    // What joins what has left in part goes behind it.
    write(10_010, 10_020);
    write(0, 3, 2);
    outbox.behind(1, TYPE.END, 2, EMPTY);
    write(3, 6, 2);
    outbox.grant(1, 20_000);
    expect(outbox.queuedBytes(1)).toBe(26);
    expect(outbox.next()).toMatchObject({ channel: 1, sequence: 10_000, body: bytesAt(10_000, 20) });
    expect(outbox.next()).toMatchObject({ channel: 2, sequence: 0, body: bytesAt(0, 3) });
    expect(outbox.next()).toMatchObject({ type: TYPE.END, sequence: 3 });
    expect(outbox.next()).toMatchObject({ channel: 2, sequence: 3, body: bytesAt(3, 3) });
    expect(outbox.empty).toBe(true);
  });

  test('holds small data of channels that take turns in what it has bytes, and sends it in its order', async () => {
    const outbox = new Outbox({ streamWindow: 3 });
    outbox.open(1);
    const heldBytes = startHeldBytes('heapUsed', 'arrayBuffers');
    for (let at = 0; at < STREAM_WINDOW_BYTES; at += 1)
      outbox.data(1, at % 2 === 0 ? 1 : 2, bytesAt(Math.floor(at / 2), 1));
    await expect.poll(heldBytes).toBeLessThan(32 * STREAM_WINDOW_BYTES);
    for (const [channel, at] of [
      [1, 0],
      [2, 0],
      [1, 1],
    ] as const)
      expect(outbox.next()).toMatchObject({ channel, sequence: at, body: bytesAt(at, 1) });
    expect(outbox.next()).toBeUndefined();
    outbox.data(1, 2, bytesAt(STREAM_WINDOW_BYTES / 2, 4));
    outbox.grant(1, STREAM_WINDOW_BYTES + 4);
    expect(outbox.next()).toMatchObject({ channel: 2, sequence: 1, body: bytesAt(1, 1) });
    let last: unknown;
    for (let frame = outbox.next(); frame; frame = outbox.next()) {
      last = frame;
      if (outbox.linkSent % LINK_ACK_BYTES < 4) outbox.grantLink(LINK_WINDOW_BYTES + outbox.linkSent);
    }
    const end = STREAM_WINDOW_BYTES / 2;
    expect(last).toMatchObject({ channel: 2, sequence: end, body: bytesAt(end, 4) });
    expect(outbox.empty).toBe(true);
  });

  test('is flooded by one control frame past their number, and by one byte past their bytes', () => {
    const flooded = (frames: number, bytes: number) => {
      const outbox = new Outbox();
      for (let each = 0; each < frames; each += 1) outbox.control(TYPE.STATUS, 0, new Uint8Array(bytes));
      const before = outbox.isFlooded;
      outbox.next();
      outbox.control(TYPE.STATUS, 0, new Uint8Array(bytes));
      expect(outbox.isFlooded).toBe(before);
      outbox.control(TYPE.STATUS, 0, new Uint8Array(1));
      return [before, outbox.isFlooded];
    };
    expect(flooded(MAX_CONTROL_WAITING, 0)).toEqual([false, true]);
    expect(flooded(MAX_CONTROL_WAITING_BYTES / MAX_CONTROL_BYTES, MAX_CONTROL_BYTES)).toEqual([false, true]);
  });

  test('that never empties keeps what waits, and nothing that has left', async () => {
    const collect = startHeldBytes();
    const outbox = new Outbox();
    outbox.open(1);
    const gone: WeakRef<Uint8Array>[] = [];
    for (let each = 0; each < 5_000; each += 1) {
      const body = new Uint8Array(1_000);
      gone.push(new WeakRef(body));
      outbox.control(TYPE.STATUS, 0, body);
      if (each > 0) outbox.next();
    }
    // What a WeakRef was made of lives to the end of its turn.
    await new Promise(setImmediate);
    collect();
    expect(gone.filter((body) => body.deref() !== undefined).length).toBeLessThan(10);
    expect(outbox.empty).toBe(false);
  });

  test('takes no window that falls, and no acknowledgement of what was not sent', () => {
    const outbox = new Outbox({ linkWindow: 100 });
    outbox.open(1);
    expect(outbox.grant(1, 1)).toBe(false);
    expect(outbox.grant(1, STREAM_WINDOW_BYTES)).toBe(true);
    expect(outbox.grantLink(99)).toBe(false);
    expect(outbox.grantLink(101)).toBe(false);
    outbox.data(1, 1, new Uint8Array(1));
    outbox.next();
    expect(outbox.grantLink(101)).toBe(true);
  });
});
