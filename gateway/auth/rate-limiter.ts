import { Failure } from '../../shared/errors.ts';
import { createBoundedMap } from './bounded-map.ts';
import type { Caller } from './caller.ts';

/** Holders whose requests are counted in one replica; the one that was idle longest is forgotten first. */
export const MAX_COUNTED_HOLDERS = 100_000;
/** Requests are counted by the second, so a window covers its 60 seconds and the part of one more. */
const WINDOW_SECONDS = 61;

export type RateLimiter = {
  /**
   * Counts one request against the key's `requests_per_minute`, in this replica. Throws `rate_limited` with
   * `retryAfterMs` at the ceiling; what is refused is not counted.
   */
  take(caller: Pick<Caller, 'holder' | 'limits'>): void;
};

type Mark = { second: number; requests: number };

export function createRateLimiter({
  elapsed,
  maxHolders = MAX_COUNTED_HOLDERS,
}: {
  /** Milliseconds that only go forward. */
  elapsed: () => number;
  maxHolders?: number;
}): RateLimiter {
  const marksOf = createBoundedMap<string, Mark[]>(maxHolders);
  return {
    take({ holder, limits: { requests_per_minute: ceiling } }) {
      if (ceiling === null) return;
      const nowMs = elapsed();
      const second = Math.floor(nowMs / 1000);
      const marks = (marksOf.get(holder) ?? []).filter((mark) => mark.second > second - WINDOW_SECONDS);
      marksOf.set(holder, marks);

      let excess = marks.reduce((sum, mark) => sum + mark.requests, 0) + 1 - ceiling;
      if (excess > 0) {
        // The request fits as soon as enough of the oldest have left the window.
        const leaving = marks.find((mark) => {
          excess -= mark.requests;
          return excess <= 0;
        });
        const freeAtMs = ((leaving?.second ?? second) + WINDOW_SECONDS) * 1000;
        throw new Failure('rate_limited', 'The key has used up its requests per minute.', {
          retryAfterMs: freeAtMs - nowMs,
        });
      }
      const last = marks.at(-1);
      if (last?.second === second) last.requests += 1;
      else marks.push({ second, requests: 1 });
    },
  };
}
