import { describe, expect, test } from 'vitest';
import { MAX_ACCEPT_WITHIN_MS, waitForSandbox } from '../../agent/executions/sandbox-wait.ts';
import {
  createWaitingRoom,
  MAX_WAITING_BYTES,
  MAX_WAITING_LINK_BYTES,
  WAITING_START_BYTES,
} from '../../agent/executions/waiting-room.ts';
import type { Pool } from '../../agent/pool/pool.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

const FULL = WAITING_START_BYTES + STREAM_WINDOW_BYTES;

/** Fills a link's share with executions of so much input; how many there were. */
function fill(room: ReturnType<typeof createWaitingRoom>, link: object, inputBytes: number): Disposable[] {
  const places: Disposable[] = [];
  try {
    for (;;) places.push(room.enter(link, inputBytes));
  } catch {
    return places;
  }
}

describe('executions that wait for a sandbox', () => {
  test('are as many over one link as its share holds with all their input, and one more when one has left', () => {
    const room = createWaitingRoom();
    const link = {};
    const places = fill(room, link, Number.MAX_SAFE_INTEGER);
    expect(places.length).toBe(Math.floor(MAX_WAITING_LINK_BYTES / FULL));
    expect(() => room.enter(link, STREAM_WINDOW_BYTES)).toThrow('at_capacity');
    places.pop()?.[Symbol.dispose]();
    expect(fill(room, link, STREAM_WINDOW_BYTES)).toHaveLength(1);
  });

  test('count without input too', () => {
    const places = fill(createWaitingRoom(), {}, 0);
    expect(places.length).toBe(MAX_WAITING_LINK_BYTES / WAITING_START_BYTES);
  });

  test('of other links have room, up to what all may hold', () => {
    const room = createWaitingRoom();
    const links = MAX_WAITING_BYTES / MAX_WAITING_LINK_BYTES;
    for (let each = 0; each < links; each += 1) expect(fill(room, {}, 0)).not.toEqual([]);
    expect(fill(room, {}, 0)).toEqual([]);
  });

  test('wait for MAX_ACCEPT_WITHIN_MS at most, however long their gateway lets them, and give their room back', async () => {
    const clock = createFakeClock();
    const [room, link] = [createWaitingRoom(), {}];
    const wait = (_principal: string, signal: AbortSignal) =>
      new Promise<never>((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason as Error)),
      );
    let end: unknown;
    const waiting = waitForSandbox(
      { clock, room } as unknown as Parameters<typeof waitForSandbox>[0],
      {
        start: { principal: 'acme/alice', accept_within_ms: 10 * MAX_ACCEPT_WITHIN_MS },
        abort: new AbortController(),
      } as Parameters<typeof waitForSandbox>[1],
      { pool: { trouble: null, wait } as unknown as Pool, inputBytes: 0 },
      link,
    ).catch((failure: unknown) => {
      end = failure;
    });
    const others = fill(room, link, 0);
    await clock.advance(MAX_ACCEPT_WITHIN_MS - 1);
    expect(end).toBeUndefined();
    await clock.advance(1);
    await waiting;
    expect(end).toMatchObject({ code: 'at_capacity' });
    expect(others.length + 1).toBe(MAX_WAITING_LINK_BYTES / WAITING_START_BYTES);
    expect(fill(room, link, 0)).toHaveLength(1);
  });
});
