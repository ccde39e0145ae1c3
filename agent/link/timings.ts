/** Bounds within which an agent follows a gateway's timings (shared/protocol.md 5.5). */
export const MIN_HEARTBEAT_MS = 1_000;
export const MAX_HEARTBEAT_MS = 30_000;
export const MIN_DEAD_HEARTBEATS = 2.5;
export const MAX_DEAD_MS = 120_000;
/** From the dial to WELCOME: connect, TLS and the gateway's own HELLO_TIMEOUT_MS. */
export const JOIN_TIMEOUT_MS = 10_000;
/** A socket whose close nobody answers. */
export const CLOSE_TIMEOUT_MS = 2_000;
/** Reconnect waits (5.8). */
export const RECONNECT_BASE_MS = 1_000;
export const RECONNECT_MAX_MS = 60_000;
export const STABLE_MS = 30_000;
/** What outages in a row make of the first wait at most: 2^n seconds. Dials that fail go on to RECONNECT_MAX_MS. */
export const MAX_FLAPS = 4;
/** Agents that a gateway sends away come back over at least this long. */
export const MIN_GOAWAY_SPREAD_MS = 1_000;
/** What GOAWAY may ask for at most: an agent that was sent away is back, and a link that is going is gone. */
export const MAX_GOAWAY_WAIT_MS = 60_000;
export const MAX_LEAVE_MS = 3_600_000;

export type Timings = { readonly heartbeatMs: number; readonly deadMs: number };

/** What a gateway proposed, within what an agent accepts: it may neither flood itself nor hide its death. */
export function clampTimings(heartbeatMs: number, deadMs: number): Timings {
  const heartbeat = Math.min(MAX_HEARTBEAT_MS, Math.max(MIN_HEARTBEAT_MS, heartbeatMs));
  return {
    heartbeatMs: heartbeat,
    deadMs: Math.min(MAX_DEAD_MS, Math.max(MIN_DEAD_HEARTBEATS * heartbeat, deadMs)),
  };
}
