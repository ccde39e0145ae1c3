/**
 * Where one sandbox of a pool stands.
 *
 * `unreached`: free, and its stream is being replaced. `cancelled`: on its way and no longer wanted. `condemned`: taken, and to be destroyed when it is given back.
 */
export const SANDBOX_STATES = [
  'creating',
  'cancelled',
  'connecting',
  'idle',
  'unreached',
  'taken',
  'condemned',
  'resetting',
  'retiring',
  'gone',
] as const;
export type SandboxState = (typeof SANDBOX_STATES)[number];

export const SANDBOX_EVENTS = [
  'created',
  'create_failed',
  'ready',
  'connect_failed',
  'take',
  /** An execution ended and left nothing behind: the backend isolates each by itself. */
  'give_back',
  /** An execution ended and the sandbox is to be emptied. */
  'clean',
  /** An execution ended well, and the sandbox serves no other. */
  'spent',
  'discard',
  'reset_done',
  'reset_failed',
  'ping_failed',
  'lost',
  /** The stream is lost and another is being opened. */
  'interrupted',
  'restored',
  'retire',
  'destroyed',
] as const;
export type SandboxEvent = (typeof SANDBOX_EVENTS)[number];

const TABLE: Record<SandboxState, Partial<Record<SandboxEvent, SandboxState>>> = {
  creating: { created: 'connecting', create_failed: 'gone', retire: 'cancelled' },
  cancelled: { created: 'retiring', create_failed: 'gone', retire: 'cancelled' },
  connecting: { ready: 'idle', connect_failed: 'retiring', lost: 'retiring', retire: 'retiring' },
  idle: {
    take: 'taken',
    ping_failed: 'retiring',
    interrupted: 'unreached',
    lost: 'retiring',
    retire: 'retiring',
  },
  // A PING that was under way when the stream was lost ends with it.
  unreached: { restored: 'idle', ping_failed: 'unreached', lost: 'retiring', retire: 'retiring' },
  taken: {
    give_back: 'idle',
    clean: 'resetting',
    spent: 'retiring',
    discard: 'retiring',
    // A PING that was under way when the sandbox was taken: the execution has its own clock.
    ping_failed: 'taken',
    interrupted: 'taken',
    restored: 'taken',
    lost: 'condemned',
    retire: 'condemned',
  },
  condemned: {
    give_back: 'retiring',
    clean: 'retiring',
    spent: 'retiring',
    discard: 'retiring',
    ping_failed: 'condemned',
    interrupted: 'condemned',
    restored: 'condemned',
    lost: 'condemned',
    retire: 'condemned',
  },
  resetting: {
    reset_done: 'idle',
    reset_failed: 'retiring',
    ping_failed: 'resetting',
    // Its RESET_DONE went with the stream: the reset fails by itself.
    interrupted: 'resetting',
    restored: 'resetting',
    lost: 'retiring',
    retire: 'retiring',
  },
  // What was under way when it was given up still reports.
  retiring: {
    destroyed: 'gone',
    ready: 'retiring',
    connect_failed: 'retiring',
    reset_done: 'retiring',
    reset_failed: 'retiring',
    ping_failed: 'retiring',
    interrupted: 'retiring',
    restored: 'retiring',
    lost: 'retiring',
    retire: 'retiring',
  },
  gone: {
    ready: 'gone',
    connect_failed: 'gone',
    reset_done: 'gone',
    reset_failed: 'gone',
    ping_failed: 'gone',
    interrupted: 'gone',
    restored: 'gone',
    lost: 'gone',
    retire: 'gone',
  },
};

/** The state after `event`. Throws RangeError for an event that cannot happen there: a bug, not a cluster's. */
export function next(state: SandboxState, event: SandboxEvent): SandboxState {
  const to = TABLE[state][event];
  if (to === undefined) throw new RangeError(`a sandbox that is ${state} cannot meet ${event}`);
  return to;
}
