import type { Duplex } from 'node:stream';
import { Failure, troubleForCallers } from '../../shared/errors.ts';
import { createBackoff } from '../backoff.ts';
import type { Clock } from '../clock.ts';
import { orAborted } from '../deadline.ts';
import { createListeners } from '../listeners.ts';
import type { Log } from '../log.ts';
import { pause } from '../pause.ts';
import type { Backend, Sandbox } from './backend.ts';

const RETRY_BASE_MS = 1_000;
const RETRY_MAX_MS = 30_000;

export type LateBackendDeps<Opened extends Backend> = Pick<
  Backend,
  'kind' | 'reconnects' | 'freshPerExecution' | 'board'
> & {
  /** For messages: `context 'a' of FILE`. */
  what: string;
  /** Reaches what makes the sandboxes, until the signal aborts. Rejects with a Failure where it cannot be used now. */
  open: (signal: AbortSignal) => Promise<Opened>;
  clock: Clock;
  random: () => number;
  log: Log;
};

/** A backend that need not be reachable yet. */
export type LateBackend<Opened extends Backend> = {
  readonly backend: Backend;
  readonly opened: Opened | undefined;
  /** Why it cannot be used, in the words for keys with scope `clusters`. Null once it has been reached. */
  readonly trouble: string | null;
};

/**
 * A backend that is tried for again and again, so that its trouble keeps no other from serving and a later start of what
 * it needs is enough. Until then sandboxes are refused and `trouble` says why.
 */
export function createLateBackend<Opened extends Backend>(
  deps: LateBackendDeps<Opened>,
): LateBackend<Opened> {
  const { what, clock, random, log } = deps;
  const stop = new AbortController();
  const reachable = createListeners();
  let opened: Opened | undefined;
  let opening: Promise<Opened> | undefined;
  let trouble: string | null = null;

  function open(): Promise<Opened> {
    if (opened) return Promise.resolve(opened);
    opening ??= tryOpen().finally(() => {
      opening = undefined;
    });
    return opening;
  }

  async function tryOpen(): Promise<Opened> {
    let made: Opened;
    try {
      stop.signal.throwIfAborted();
      made = await deps.open(stop.signal);
    } catch (cause) {
      throw refused(cause);
    }
    if (stop.signal.aborted) {
      // Closed meanwhile: what has just been made goes.
      await made.close();
      throw new Failure('draining', 'The agent ends.');
    }
    opened = made;
    if (trouble !== null) log('cluster_reached', { what });
    trouble = null;
    made.onReachable?.(reachable.tell);
    reachable.tell();
    return made;
  }

  /** The sentence with names of this machine is for the log and for keys with scope `clusters`; callers learn less. */
  function refused(cause: unknown): Failure {
    const detail = cause instanceof Failure ? cause.detail : 'It cannot be used.';
    const isWhole = cause instanceof Failure && cause.code === 'invalid_request';
    const sentence = isWhole ? detail : `${what[0]?.toUpperCase()}${what.slice(1)}: ${detail}`;
    if (!stop.signal.aborted && sentence !== trouble)
      log('cluster_unavailable', { detail: sentence, cause: cause instanceof Failure ? cause.cause : cause });
    trouble = sentence;
    if (cause instanceof Failure && cause.code === 'isolation_failed')
      return new Failure('isolation_failed', 'The cluster cannot keep what its templates promise.', {
        cause,
      });
    return troubleForCallers({ code: 'backend_unavailable', detail }, { cause });
  }

  async function keepTrying(): Promise<void> {
    const backoff = createBackoff({ baseMs: RETRY_BASE_MS, maxMs: RETRY_MAX_MS, random });
    while (!stop.signal.aborted && !opened) {
      try {
        await open();
      } catch {
        await pause(clock, backoff.next(), stop.signal).catch(() => {});
      }
    }
  }

  void keepTrying();
  const backend: Backend = {
    kind: deps.kind,
    reconnects: deps.reconnects,
    freshPerExecution: deps.freshPerExecution,
    ...(deps.board ? { board: deps.board } : {}),
    async create(template, signal, options): Promise<Sandbox> {
      const made = opened ?? (await orAborted(open(), signal));
      return made.create(template, signal, options);
    },
    connect: async (sandbox, signal): Promise<Duplex> => (await open()).connect(sandbox, signal),
    endOf: async (sandbox, signal) => opened?.endOf?.(sandbox, signal),
    destroy: async (sandbox) => opened?.destroy(sandbox),
    list: async () => (await open()).list(),
    onReachable: reachable.add,
    async close() {
      stop.abort(new Failure('draining', 'The agent ends.'));
      await opening?.catch(() => {});
      await opened?.close();
    },
  };
  return {
    backend,
    get opened() {
      return opened;
    },
    get trouble() {
      return trouble;
    },
  };
}
