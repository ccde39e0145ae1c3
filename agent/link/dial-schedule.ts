import { createBackoff } from '../backoff.ts';
import { MAX_FLAPS, MIN_GOAWAY_SPREAD_MS, RECONNECT_BASE_MS, RECONNECT_MAX_MS } from './timings.ts';

/**
 * When the next dial may be made (shared/protocol.md 5.7, 5.8). A wait is anywhere between 0 and 1 s × 2^n, 60 s at most:
 * n counts the dials since the last join or loss that brought no link, and the outages since a link was last stable.
 */
export type DialSchedule = {
  /** Until the next dial; 0 when one may be made now. */
  waitMs(): number;
  /** A dial came to nothing. */
  failed(): void;
  /** A dial led where enough links are. As many in a row as there are replicas count as one that came to nothing. */
  surplus(replicas: number): void;
  /** A link was lost that had joined. Links that are lost together are one outage. */
  lost(): void;
  /** A gateway asked its agents to come back after a while: no failure of anybody. */
  sentAway(afterMs: number): void;
  joined(): void;
  /** A link has lasted STABLE_MS. */
  stable(): void;
  /** Dials since the last join or loss that brought no link. */
  readonly failures: number;
};

export type DialScheduleDeps = {
  /** Milliseconds that only go forward. */
  now: () => number;
  /** 0 ≤ n < 1. */
  random: () => number;
};

export function createDialSchedule({ now, random }: DialScheduleDeps): DialSchedule {
  const failures = createBackoff({ baseMs: RECONNECT_BASE_MS, maxMs: RECONNECT_MAX_MS, random });
  let flaps = 0;
  let out = false;
  let surplus = 0;
  let dialAtMs = 0;

  function failed(): void {
    surplus = 0;
    dialAtMs = now() + failures.next();
  }

  /** Whatever was waited for before is not what is waited for now. */
  function anew(waitMs: number): void {
    surplus = 0;
    dialAtMs = now() + waitMs;
  }

  return {
    waitMs: () => Math.max(0, dialAtMs - now()),
    failed,
    surplus(replicas) {
      surplus += 1;
      if (surplus >= replicas) failed();
    },
    lost() {
      if (out) return;
      out = true;
      failures.reset(flaps);
      anew(failures.next());
      flaps = Math.min(MAX_FLAPS, flaps + 1);
    },
    sentAway(afterMs) {
      failures.reset();
      // Never less than a second wide, or every agent of a gateway that names no wait would come at once.
      anew(afterMs + random() * Math.max(MIN_GOAWAY_SPREAD_MS, afterMs / 2));
    },
    joined() {
      out = false;
      surplus = 0;
      failures.reset();
    },
    stable() {
      flaps = 0;
    },
    get failures() {
      return failures.tries;
    },
  };
}
