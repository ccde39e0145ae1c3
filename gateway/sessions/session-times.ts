import type { SessionState } from '../../shared/session-messages.ts';
import { createBoundedMap } from '../auth/bounded-map.ts';

/** Sessions whose beginning one gateway remembers; the one that was asked for longest ago makes room. */
export const MAX_BEGINNINGS = 10_000;
/** What is told later by more than this is believed: a clock was set, or a machine slept. */
export const BEGINNING_SLACK_MS = 1_000;

/** Seconds since 1970. */
export type SessionTimes = { created_at: number; expires_at: number };

/**
 * When sessions began and end. Agents say how long ago and in how long, and every answer takes another while: a beginning
 * stays as it was told first. `instance`: names who says it; of another one, an id is another's.
 */
export function createSessionTimes(
  now: () => number,
  maxBeginnings = MAX_BEGINNINGS,
): (instance: string, state: SessionState) => SessionTimes {
  const beginnings = createBoundedMap<string, number>(maxBeginnings);
  return (instance, { session_id, created_ms_ago, expires_in_ms }) => {
    const name = `${instance} ${session_id}`;
    const toldMs = now() - created_ms_ago;
    const keptMs = beginnings.get(name) ?? toldMs;
    const createdMs = Math.abs(toldMs - keptMs) > BEGINNING_SLACK_MS ? toldMs : keptMs;
    beginnings.set(name, createdMs);
    return {
      created_at: createdMs / 1_000,
      expires_at: (createdMs + created_ms_ago + expires_in_ms) / 1_000,
    };
  };
}
