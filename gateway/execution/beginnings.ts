import { createBoundedMap } from '../auth/bounded-map.ts';

/** Beginnings that are remembered; the one that was asked for longest ago makes room. */
export const MAX_BEGINNINGS = 10_000;
/** What is told later by more than this is believed: a clock was set, or a machine slept. */
export const BEGINNING_SLACK_MS = 1_000;

/**
 * When things began, in ms since 1970. Agents say how long ago, and every answer takes another while: a beginning stays as
 * it was told first. `name`: names one thing among all, with who says it where another may use the same.
 */
export function createBeginnings(
  now: () => number,
  maxBeginnings = MAX_BEGINNINGS,
): (name: string, msAgo: number) => number {
  const beginnings = createBoundedMap<string, number>(maxBeginnings);
  return (name, msAgo) => {
    const toldMs = now() - msAgo;
    const keptMs = beginnings.get(name) ?? toldMs;
    const beganMs = Math.abs(toldMs - keptMs) > BEGINNING_SLACK_MS ? toldMs : keptMs;
    beginnings.set(name, beganMs);
    return beganMs;
  };
}
