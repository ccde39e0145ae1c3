import type { SessionState } from '../../shared/session-messages.ts';
import { createBeginnings } from '../execution/beginnings.ts';

/** Seconds since 1970. */
export type SessionTimes = { created_at: number; expires_at: number };

/** When sessions began and end. `instance`: names who says it; of another one, an id is another's. */
export function createSessionTimes(
  now: () => number,
  maxBeginnings?: number,
): (instance: string, state: SessionState) => SessionTimes {
  const beganMs = createBeginnings(now, maxBeginnings);
  return (instance, { session_id, created_ms_ago, expires_in_ms }) => {
    const createdMs = beganMs(`${instance} ${session_id}`, created_ms_ago);
    return {
      created_at: createdMs / 1_000,
      expires_at: (createdMs + created_ms_ago + expires_in_ms) / 1_000,
    };
  };
}
