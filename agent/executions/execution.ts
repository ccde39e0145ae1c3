import { Failure, type Started } from '../../shared/errors.ts';
import { ORPHAN_MS, RUNNER_GRACE_MS, STREAM_WINDOW_BYTES, TERMINAL_IDLE_MS } from '../../shared/limits.ts';
import type { ExitBody } from '../../shared/messages.ts';
import type { RunnerSessionWork } from '../../shared/session-messages.ts';
import type { SignalState } from '../../shared/signals.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { Lease, Verdict } from '../pool/lending.ts';
import type { SandboxHandlers } from '../pool/steady-runner.ts';
import type { RunnerExecution } from '../runner/client.ts';
import type { Admission } from './admission.ts';
import { ExecutionOutput } from './execution-output.ts';
import { failureExit, memoryLimitExit, silentTimeoutExit } from './exits.ts';
import { createIdleWatch, type IdleWatch } from './idle-watch.ts';
import { LiveInput, type WriterPort } from './live-input.ts';
import type { ExecutionInput, ExecutionPort } from './port.ts';
import type { Retention } from './retention.ts';

/** A runner that has all its input and says nothing for so long is given up. */
export const STAGE_SILENCE_MS = 10_000;
/** The same where a session opens: many do so at once, on nodes that make sandboxes for others meanwhile. */
export const OPEN_SILENCE_MS = 30_000;
/** A gateway that sends no more of the input it announced for so long loses the execution. */
export const INPUT_SILENCE_MS = 30_000;

export type ExecutionDeps = {
  clock: Clock;
  admission: Admission;
  port: ExecutionPort;
  retention: Retention;
  /** Nobody has to listen: it goes on when nobody does. */
  detach: boolean;
  onStarted: () => void;
  /** Nothing ran: the last call. `lease` is to be given back where there is one. */
  onRefused: (failure: Failure, lease: Lease | undefined, verdict: Verdict) => void;
  /** It is over, the last call. */
  onEnded: (exit: ExitBody, lease: Lease, verdict: Verdict) => void;
};

export type Execution = ExecutionInput & {
  /** Gives the execution its sandbox. False: it is over and the lease is the caller's to give back. */
  run(lease: Lease): boolean;
  /** Ends it before it has a sandbox. */
  refuse(failure: Failure): void;
  /** The link that its input came over is lost: refuses it where the input is not whole. */
  strand(): void;
  /** To its program: only work of a session takes any. */
  signal(number: number): SignalState;
  /** Ends it now, whatever it does: its sandbox goes. */
  kill(failure: Failure): void;
  /** Takes in one who feeds the program while it runs. Throws the Failure that it is to be refused with. */
  feed(writer: string, port: WriterPort): ExecutionInput;
  readonly output: ExecutionOutput;
  readonly outputBytes: number;
};

/**
 * One execution from START to EXIT: a relay between streams on links and a stream to a runner. Both directions start with
 * the same window and the limits of one are passed on to the other: there is never a byte here for which the next hop has
 * no room, but for what `ExecutionOutput` keeps, and for one window of input that comes before the sandbox is there.
 * Once its input is whole it outlives its link.
 */
export function createExecution(deps: ExecutionDeps): Execution {
  const { clock, admission, onStarted, onRefused, onEnded } = deps;
  const { inputBytes, body } = admission;
  const stageSilenceMs = body.session?.do === 'open' ? OPEN_SILENCE_MS : STAGE_SILENCE_MS;
  let phase: 'waiting' | 'staging' | 'started' | 'over' = 'waiting';
  let early: Uint8Array[] = [];
  let received = 0;
  let taken = 0;
  let lease: Lease | undefined;
  let runner: RunnerExecution | undefined;
  let startedAtMs = 0;
  let lastSignMs = 0;
  let outputBytes = 0;
  let dropsOutput = false;
  let cancelled = false;
  let isLinked = true;
  let cancelWatch: CancelTimer = () => {};
  let cancelWait: CancelTimer = () => {};
  let idle: IdleWatch | undefined;
  const live = feedsOn(body.session) ? new LiveInput(inputBytes, () => idle?.touch()) : undefined;
  const output = new ExecutionOutput(deps.port, {
    retention: deps.retention,
    documents: body.rich || body.session ? 1 : 0,
    onLimit: (limit) => runner?.window(limit),
    onAwaited(isAwaited) {
      cancelWait();
      if (isAwaited && phase !== 'over') cancelWait = clock.after(ORPHAN_MS, orphaned);
    },
  });
  const { length: sent } = output.log;
  const first = output.first;

  const handlers: SandboxHandlers = {
    started() {
      if (phase !== 'staging') return;
      phase = 'started';
      startedAtMs = sign();
      watchIn(body.limits.timeout_ms + RUNNER_GRACE_MS);
      onStarted();
      output.started();
      if (runner) live?.begin(runner);
      if (body.session?.do === 'terminal')
        idle = createIdleWatch(clock, TERMINAL_IDLE_MS, () => cancel('idle'));
    },
    data(channel, _offset, bytes) {
      if (phase === 'over') return;
      sign();
      outputBytes += bytes.byteLength;
      output.data(channel, bytes);
      if (output.inUse) idle?.touch();
      if (dropsOutput) runner?.window(outputBytes + STREAM_WINDOW_BYTES);
    },
    fileEnd(file) {
      sign();
      if (phase !== 'over') output.fileEnd(file);
    },
    inputWindow(limit) {
      sign();
      const bytes = Math.min(limit - STREAM_WINDOW_BYTES, inputBytes) - taken;
      if (bytes > 0) {
        taken += bytes;
        if (isLinked) deps.port.consumed(bytes);
      }
      live?.window(limit);
    },
    inputResumed: (received) => live?.resume(received),
    exit(exit) {
      const broken =
        exit.failure !== null && !['stage_failed', 'cancelled', 'busy'].includes(exit.failure.code);
      end(dropsOutput ? withDropped(exit) : exit, broken ? 'discard' : 'reuse');
    },
    lost(reason, why) {
      if (phase === 'over') return;
      if (why?.why === 'memory' && phase === 'started') {
        end(memoryLimitExit(clock.now() - startedAtMs, sent[1], sent[2]), 'discard');
        return;
      }
      if (phase === 'staging' && received < inputBytes) refuseNow(toCaller(reason), 'discard');
      else end(failureExit(toCaller(reason), howStarted()), 'discard');
    },
  };

  function sign(): number {
    lastSignMs = clock.now();
    return lastSignMs;
  }

  /** User code cannot have begun before the runner had the last byte of its input. */
  function howStarted(): Started {
    if (phase === 'started') return 'yes';
    return runner && received >= inputBytes ? 'unknown' : 'no';
  }

  function end(exit: ExitBody, verdict: Verdict): void {
    if (phase === 'over' || !lease) return;
    phase = 'over';
    cancelWatch();
    cancelWait();
    live?.over();
    idle?.stop();
    output.exit(exit);
    onEnded(exit, lease, verdict);
  }

  function refuseNow(failure: Failure, verdict: Verdict): void {
    if (phase === 'over') return;
    phase = 'over';
    cancelWatch();
    cancelWait();
    early = [];
    live?.over();
    output.refuse(failure);
    onRefused(failure, lease, verdict);
  }

  function kill(failure: Failure): void {
    if (howStarted() === 'no') refuseNow(failure, runner ? 'discard' : 'unused');
    else end(failureExit(failure, howStarted()), 'discard');
  }

  /** Nothing has run and nothing can: whoever asks is told that it may run elsewhere. */
  function strand(): void {
    if (phase === 'waiting' || received < inputBytes)
      refuseNow(
        new Failure('cancelled', 'The link was lost before the input was whole.'),
        runner ? 'discard' : 'unused',
      );
  }

  function watchIn(delayMs: number): void {
    cancelWatch();
    cancelWatch = clock.after(delayMs, watch);
  }

  /** The agent's own clock: a runner is believed, but not for ever. */
  function watch(): void {
    const silentMs = clock.now() - lastSignMs;
    if (cancelled) {
      if (!dropsOutput && output.isHeld) dropOutput();
      else kill(new Failure('cancelled', 'The runner did not confirm the end; its sandbox was discarded.'));
      return;
    }
    if (phase === 'staging') {
      // Not the runner's silence: whether it has begun is asked over the next stream, and how long to wait for one is decided there.
      if (lease?.runner.interrupted) {
        sign();
        watchIn(RUNNER_GRACE_MS);
        return;
      }
      const allowedMs = received < inputBytes ? INPUT_SILENCE_MS : stageSilenceMs;
      if (silentMs < allowedMs) watchIn(allowedMs - silentMs);
      else if (received < inputBytes)
        kill(new Failure('deadline_exceeded', 'The input did not arrive in time.'));
      else kill(new Failure('runner_error', 'The runner did not start the program in time.'));
      return;
    }
    // Nobody heard the program end, or not: its time being over proves nothing.
    if (lease?.runner.interrupted) {
      kill(new Failure('sandbox_lost', 'The stream to the sandbox was lost and did not come back in time.'));
      return;
    }
    // A runner that may send nothing is not silent by its own will: how long a reader may stall is the gateway's.
    if (output.isHeld) watchIn(RUNNER_GRACE_MS);
    else if (silentMs < RUNNER_GRACE_MS) watchIn(RUNNER_GRACE_MS - silentMs);
    else if (sent[3] > 0) kill(new Failure('runner_error', 'The runner fell silent while it sent files.'));
    else end(silentTimeoutExit(clock.now() - startedAtMs, sent[1], sent[2]), 'discard');
  }

  /** Nobody takes the output any more: the runner gets rid of it, so that its EXIT can come. */
  function dropOutput(): void {
    dropsOutput = true;
    output.dropRest();
    runner?.window(outputBytes + STREAM_WINDOW_BYTES);
    watchIn(RUNNER_GRACE_MS);
  }

  /** Whoever lost its link did not come back in time. */
  function orphaned(): void {
    if (output.giveUpWaiting() && !deps.detach) cancel('orphaned');
  }

  function cancel(reason: string): void {
    if (cancelled || phase === 'over') return;
    cancelled = true;
    if (runner) {
      runner.cancel(reason);
      if (reason === 'reader_stalled') dropOutput();
      else watchIn(RUNNER_GRACE_MS);
    } else refuseNow(new Failure('cancelled', 'Cancelled before it started.'), 'unused');
  }

  return {
    run(given) {
      if (phase !== 'waiting') return false;
      lease = given;
      const isFree = body.session?.do === 'open' || body.session?.do === 'files';
      if (!isFree && !Object.hasOwn(given.ready.languages, body.language)) {
        refuseNow(new Failure('no_language', `The sandbox has no ${body.language}.`), 'unused');
        return true;
      }
      phase = 'staging';
      sign();
      watchIn(stageSilenceMs);
      try {
        runner = given.runner.start(given.streamId, body, handlers);
      } catch (error) {
        // The sandbox was lost in this very turn.
        refuseNow(
          toCaller(error instanceof Failure ? error : new Failure('sandbox_lost', 'The sandbox was lost.')),
          'discard',
        );
        return true;
      }
      // Behind START: what one turn sends leaves in the order in which it began, and the caller waits for the program.
      deps.port.accept();
      runner.window(output.granted);
      for (const bytes of early) runner.write(bytes);
      early = [];
      return true;
    },
    data(bytes) {
      if (phase === 'over') return true;
      received += bytes.byteLength;
      if (received > inputBytes) {
        cancel('protocol_error');
        return false;
      }
      sign();
      if (runner) runner.write(bytes);
      else early.push(bytes);
      return true;
    },
    end: () => phase === 'over' || received === inputBytes,
    window: first.window,
    cancel,
    refuse: (failure) => refuseNow(failure, 'unused'),
    signal(number) {
      if (body.session?.do !== 'bash' && body.session?.do !== 'python') return 'takes_none';
      if (phase === 'over') return 'over';
      if (phase !== 'started' || !runner) return 'waiting';
      if (lease?.runner.interrupted) return 'unreachable';
      runner.signal(number);
      return 'sent';
    },
    kill,
    leave(why) {
      isLinked = false;
      first.leave(why);
      strand();
    },
    strand,
    feed(writer, port) {
      if (!live) throw new Failure('conflict', 'This program takes no input while it runs.');
      return live.open(writer, port);
    },
    output,
    get outputBytes() {
      return outputBytes;
    },
  };
}

function feedsOn(work: RunnerSessionWork | undefined): boolean {
  return work?.do === 'terminal' || (work?.do === 'bash' && work.input === true);
}

/** A runner's faults are its own: the caller's peer broke nothing. */
function toCaller(reason: Failure): Failure {
  if (reason.code !== 'protocol_error' && reason.code !== 'too_large') return reason;
  return new Failure('runner_error', 'The runner broke its protocol; its sandbox was discarded.', {
    cause: reason,
  });
}

/** What was dropped after a cancellation is said: fewer bytes came than the program wrote. */
function withDropped(exit: ExitBody): ExitBody {
  if (!exit.result) return exit;
  return { result: { ...exit.result, stdout_truncated: true, stderr_truncated: true }, failure: null };
}
