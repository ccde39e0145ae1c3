import type { Duplex } from 'node:stream';
import { Failure } from '../../shared/errors.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { Backend, Sandbox, SandboxEnd } from '../backends/backend.ts';
import { createBackoff } from '../backoff.ts';
import type { Clock } from '../clock.ts';
import { createDeadline, orAborted } from '../deadline.ts';
import type { Log } from '../log.ts';
import type { RunnerClient, RunnerClientDeps } from '../runner/client.ts';
import type { ExecutionHandlers } from '../runner/execution-stream.ts';
import type { Ready, RunnerStartBody } from '../runner/messages.ts';
import type { RunnerExecution } from '../runner/runner-execution.ts';
import type { PoolBounds } from './bounds.ts';

/** `lost` comes once, when no stream will replace the one that was lost. `end` is why the sandbox is no more, where it is known. */
export type SandboxHandlers = Omit<ExecutionHandlers, 'lost'> & {
  lost(reason: Failure, end?: SandboxEnd): void;
};

/** A sandbox's runner across the streams that reach it. */
export type SandboxRunner = Pick<RunnerClient, 'ready' | 'ping' | 'reset' | 'close'> & {
  /** The stream was lost and another is being opened. Executions go on in the sandbox, unheard. */
  readonly interrupted: boolean;
  /** Resolves when the sandbox cannot be reached any more. */
  readonly ended: Promise<Failure>;
  start(streamId: number, body: RunnerStartBody, handlers: SandboxHandlers): RunnerExecution;
};

/** A runner as it is, but for how work begins in it. */
export function withStart(runner: SandboxRunner, start: SandboxRunner['start']): SandboxRunner {
  return {
    ...runner,
    // Spread, it would stay as it is now.
    get interrupted() {
      return runner.interrupted;
    },
    start,
  };
}

export type SteadyRunnerDeps = {
  backend: Pick<Backend, 'connect' | 'reconnects' | 'endOf'>;
  sandbox: Sandbox;
  /** The first one. */
  stream: Duplex;
  clock: Clock;
  random: () => number;
  log: Log;
  bounds: PoolBounds;
  openRunner: (deps: RunnerClientDeps) => RunnerClient;
  onInterrupted: () => void;
  onRestored: () => void;
  /** Once: the sandbox cannot be reached any more, or broke its protocol. */
  onLost: (reason: Failure) => void;
};

type Held = {
  readonly handlers: SandboxHandlers;
  execution: RunnerExecution;
  /** What was asked for while nobody could hear it. */
  limit: number;
  cancelled: string | undefined;
};

/**
 * Replaces a lost stream if the backend can reconnect: at once, or with backoff if the previous replacement was recent.
 * Running executions resume by offset. Gives up when the backend says that the sandbox ended, or after
 * `reconnectTimeoutMs`. A stream that is lost before READY, or that broke the protocol, is never replaced.
 */
export function createSteadyRunner(deps: SteadyRunnerDeps): SandboxRunner {
  const { backend, sandbox, clock, random, log, bounds, openRunner } = deps;
  const running = new Map<number, Held>();
  const stop = new AbortController();
  const ended = Promise.withResolvers<Failure>();
  const backoff = createBackoff({ baseMs: bounds.reconnectBaseMs, maxMs: bounds.reconnectMaxMs, random });
  let phase: 'first' | 'joined' | 'interrupted' | 'over' = 'first';
  /** When a stream last replaced another. */
  let replacedAtMs = Number.NEGATIVE_INFINITY;
  let epoch = 1;
  /** Why the stream that is being joined has ended. */
  let endedEarly: Failure | undefined;
  let client = open(deps.stream, []);
  client.ready.then(
    () => {
      if (phase === 'first') phase = 'joined';
    },
    () => {},
  );

  function open(stream: Duplex, resume: NonNullable<RunnerClientDeps['resume']>): RunnerClient {
    const own = epoch;
    return openRunner({
      stream,
      epoch,
      resume,
      log,
      onClosed: (reason) => own === epoch && onClosed(reason),
    });
  }

  function onClosed(reason: Failure): void {
    if (phase === 'over') return;
    if (phase === 'interrupted') {
      // It fails the try that opened it, also where its READY came in this very turn.
      endedEarly = reason;
      return;
    }
    const replaceable = phase === 'joined' && backend.reconnects && reason.code === 'sandbox_lost';
    if (replaceable) void replace(reason);
    else finish(reason);
  }

  async function replace(reason: Failure): Promise<void> {
    phase = 'interrupted';
    const lostAtMs = clock.now();
    deps.onInterrupted();
    using deadline = createDeadline(clock, bounds.reconnectTimeoutMs, () => reason, stop.signal);
    const { signal } = deadline;
    // Who cuts each stream, be it the program inside, has the cluster asked for the next one less and less often.
    if (lostAtMs - replacedAtMs < bounds.reconnectSteadyMs) await endWithin(backoff.next(), signal);
    else backoff.reset();
    for (let tries = 1; !signal.aborted; tries += 1) {
      try {
        await join(signal);
        replacedAtMs = clock.now();
        log('sandbox_stream_replaced', {
          sandbox: sandbox.id,
          epoch,
          tries,
          after_ms: Math.round(replacedAtMs - lostAtMs),
          cause: reason.cause,
        });
        return;
      } catch (cause) {
        // A sandbox that says what it must not is never reached again.
        const isBroken = cause instanceof Failure && ['protocol_error', 'too_large'].includes(cause.code);
        if (isBroken && !signal.aborted) finish(cause);
      }
      if (phase !== 'interrupted') return;
      const end = await endWithin(backoff.next(), signal);
      if (end) finish(end.failure, end);
    }
    finish(reason);
  }

  /** A new stream to the same runner, with what runs. */
  async function join(signal: AbortSignal): Promise<void> {
    const stream = await orAborted(backend.connect(sandbox, signal), signal);
    epoch += 1;
    endedEarly = undefined;
    const held = [...running.values()];
    const resume = held.map(({ execution, handlers }) => ({
      // The runner may not have heard of the last window: it is said again below.
      checkpoint: { ...execution.checkpoint(), limit: STREAM_WINDOW_BYTES },
      handlers: relay(execution.checkpoint().streamId, handlers),
    }));
    const granted = held.map(({ execution, limit }) => Math.max(limit, execution.checkpoint().limit));
    client = open(stream, resume);
    held.forEach((each, index) => {
      each.execution = client.resumed[index] as RunnerExecution;
      each.execution.window(granted[index] as number);
      if (each.cancelled !== undefined) each.execution.cancel(each.cancelled);
    });
    try {
      const ready = await orAborted(client.ready, signal);
      if (endedEarly) throw endedEarly;
      if (!ready.ok)
        throw new Failure('sandbox_lost', 'The sandbox no longer has what its template requires.');
    } catch (cause) {
      client.close();
      throw cause;
    }
    if (phase !== 'interrupted') return;
    phase = 'joined';
    deps.onRestored();
  }

  /** Waits; the backend's word that the sandbox ended ends the wait. */
  async function endWithin(waitMs: number, signal: AbortSignal): Promise<SandboxEnd | undefined> {
    using wait = createDeadline(clock, waitMs, () => new Error('waited'), signal);
    const over = new Promise<undefined>((resolve) => {
      if (wait.signal.aborted) resolve(undefined);
      else wait.signal.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    const end = await Promise.race([backend.endOf?.(sandbox, wait.signal) ?? over, over]).catch(
      () => undefined,
    );
    // A backend that does not know must not make the wait shorter.
    if (end === undefined) await over;
    return end;
  }

  function relay(streamId: number, handlers: SandboxHandlers): ExecutionHandlers {
    return {
      ...handlers,
      exit(exit) {
        running.delete(streamId);
        handlers.exit(exit);
      },
      // Whether it is lost is decided when its stream cannot be replaced.
      lost() {},
    };
  }

  function finish(reason: Failure, end?: SandboxEnd): void {
    if (phase === 'over') return;
    phase = 'over';
    stop.abort(reason);
    client.close();
    const lost = [...running.values()];
    running.clear();
    for (const { handlers } of lost) handlers.lost(reason, end);
    deps.onLost(reason);
    ended.resolve(reason);
  }

  function start(streamId: number, body: RunnerStartBody, handlers: SandboxHandlers): RunnerExecution {
    if (phase !== 'joined')
      throw new Failure('sandbox_lost', 'The stream to the sandbox was lost.', { started: 'no' });
    const execution = client.start(streamId, body, relay(streamId, handlers));
    const held: Held = { handlers, execution, limit: 0, cancelled: undefined };
    running.set(streamId, held);
    return {
      // Input that is lost with a stream before the program began is not sent again: the runner says then that nothing ran.
      write: (bytes) => held.execution.write(bytes),
      endInput: () => held.execution.endInput(),
      resize: (rows, columns) => held.execution.resize(rows, columns),
      window(limit) {
        held.limit = Math.max(held.limit, limit);
        held.execution.window(limit);
      },
      cancel(why) {
        held.cancelled = why;
        held.execution.cancel(why);
      },
      signal: (number) => held.execution.signal(number),
      checkpoint: () => held.execution.checkpoint(),
    };
  }

  return {
    ready: client.ready as Promise<Ready>,
    get interrupted() {
      return phase === 'interrupted';
    },
    ended: ended.promise,
    start,
    ping: (signal) => client.ping(signal),
    reset: (signal) => client.reset(signal),
    close: () => finish(new Failure('sandbox_lost', 'The stream to the sandbox was closed by its owner.')),
  };
}
