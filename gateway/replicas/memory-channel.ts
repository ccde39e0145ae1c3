import { Failure } from '../../shared/errors.ts';
import { MAX_MESSAGE_BYTES } from '../../shared/limits.ts';
import { type LinkChannel, MAX_CHANNEL_BYTES, MIN_MESSAGE_COST_BYTES } from './replica-links.ts';

/** Both ends of one channel in one process. */
export type MemoryChannel = {
  readonly ends: readonly [LinkChannel, LinkChannel];
  /** A replica is gone: nothing arrives any more. */
  lose(): void;
};

/** `onOver` is called once, when neither side can use it any more. */
export function createMemoryChannel(onOver: () => void): MemoryChannel {
  const lanes = [createLane(), createLane()] as const;
  const settle = () => {
    if (lanes.every((lane) => lane.over)) onOver();
  };
  const endOf = (out: Lane, into: Lane): LinkChannel => {
    const close = () => {
      out.end();
      into.drop();
      settle();
    };
    return {
      send: (message) => out.push(message),
      async *messages() {
        try {
          yield* into.take();
        } finally {
          close();
        }
      },
      close,
    };
  };
  return {
    ends: [endOf(lanes[0], lanes[1]), endOf(lanes[1], lanes[0])],
    lose() {
      for (const lane of lanes) lane.lose();
      settle();
    },
  };
}

/** One direction: messages wait in it until they are taken. */
type Lane = ReturnType<typeof createLane>;

function createLane() {
  const waiting: Uint8Array[] = [];
  let bytes = 0;
  let state: 'open' | 'ended' | 'dropped' | 'lost' = 'open';
  let changed = Promise.withResolvers<void>();
  /** Sends wait for the one before: what is sent in turn arrives in turn. */
  let last: Promise<void> = Promise.resolve();

  function turn(to?: typeof state): void {
    if (to) state = to;
    changed.resolve();
    changed = Promise.withResolvers();
  }

  async function put(message: Uint8Array): Promise<void> {
    const cost = costOf(message);
    while (state === 'open' && bytes > 0 && bytes + cost > MAX_CHANNEL_BYTES) await changed.promise;
    if (state !== 'open') throw lostFailure();
    bytes += cost;
    waiting.push(message);
    turn();
  }

  return {
    get over() {
      return state !== 'open';
    },
    push(message: Uint8Array): Promise<void> {
      if (message.byteLength > MAX_MESSAGE_BYTES)
        return Promise.reject(new Failure('too_large', 'A message between replicas is too large.'));
      const own = message.slice();
      const sent = last.then(() => put(own));
      last = sent.catch(() => {});
      return sent;
    },
    async *take(): AsyncGenerator<Uint8Array, void, undefined> {
      for (;;) {
        const message = waiting.shift();
        if (message) {
          bytes -= costOf(message);
          turn();
          yield message;
        } else if (state === 'open') await changed.promise;
        else if (state === 'lost') throw lostFailure();
        else return;
      }
    },
    /** The sender has closed. */
    end(): void {
      if (state === 'open') turn('ended');
    },
    /** The receiver has closed: what waits is for nobody. */
    drop(): void {
      waiting.length = 0;
      bytes = 0;
      if (state === 'open') turn('dropped');
    },
    lose(): void {
      waiting.length = 0;
      bytes = 0;
      if (state === 'open') turn('lost');
    },
  };
}

function costOf(message: Uint8Array): number {
  return Math.max(message.byteLength, MIN_MESSAGE_COST_BYTES);
}

function lostFailure(): Failure {
  return new Failure('agent_lost', 'The channel to the replica that has the link is over.', {
    started: 'unknown',
  });
}
