import { Failure, type Started } from '../../shared/errors.ts';
import { RUNNER_GRACE_MS } from '../../shared/limits.ts';
import type { ExitBody } from '../../shared/messages.ts';
import type { Clock } from '../clock.ts';
import type { Loan, Verdict } from '../pool/lending.ts';
import type { SandboxHandlers } from '../pool/steady-runner.ts';
import type { RunnerExecution } from '../runner/runner-execution.ts';
import type { Admission } from './admission.ts';
import {
  failureExit,
  failureOf,
  isOfRequest,
  memoryLimitExit,
  orphansExit,
  silentTimeoutExit,
  toCaller,
  withDropped,
} from './exits.ts';
import { OutputRelay } from './output-relay.ts';
import type { Execution, ExecutionPort } from './port.ts';
import type { Retention } from './retention.ts';
import { judgeSilence, OPEN_SILENCE_MS, STAGE_SILENCE_MS } from './runner-silence.ts';
import { RunnerWatch } from './runner-watch.ts';
import { SessionProgram, takesNoInput } from './session-program.ts';
import { StartInput } from './start-input.ts';

export type ExecutionDeps = {
  clock: Clock;
  admission: Admission;
  port: ExecutionPort;
  retention: Retention;
  /** Nobody has to listen: it goes on when nobody does. */
  detach: boolean;
  onStarted: () => void;
  /** Nothing ran: the last call. `loan` is to be given back where there is one. */
  onRefused: (failure: Failure, loan: Loan | undefined, verdict: Verdict) => void;
  /** It is over, the last call. */
  onEnded: (exit: ExitBody, loan: Loan, verdict: Verdict) => void;
};

/**
 * One execution from START to EXIT: a relay between streams on links and a stream to a runner. Both directions start with
 * the same window and the limits of one are passed on to the other: there is never a byte here for which the next hop has
 * no room, but for what `ExecutionOutput` keeps, and for one window of input that comes before the sandbox is there.
 * Once its input is whole it outlives its link.
 */
export function createExecution(deps: ExecutionDeps): Execution {
  const { clock, admission, port, retention, onStarted, onRefused, onEnded } = deps;
  const { inputBytes, body } = admission;
  const { session } = body;
  const stageSilenceMs = session?.do === 'open' ? OPEN_SILENCE_MS : STAGE_SILENCE_MS;
  /** May run in another sandbox where this one fails it; work of a session has no other. */
  const moves = !session || session.do === 'open';
  let phase: 'waiting' | 'staging' | 'started' | 'over' = 'waiting';
  let loan: Loan | undefined;
  let runner: RunnerExecution | undefined;
  let startedAtMs = 0;
  let cancelled = false;
  let orphaned = false;
  const watch = new RunnerWatch(clock, look);
  const input = new StartInput(inputBytes, port);
  const program = session && new SessionProgram({ clock, session, inputBytes, onIdle: () => cancel('idle') });
  const documents = body.rich || session ? 1 : 0;
  const relay = new OutputRelay({ clock, port, retention, watch, documents, onOrphaned });
  const { output } = relay;
  const { length: sent } = output.log;
  const first = output.first;

  const handlers: SandboxHandlers = {
    started() {
      if (phase !== 'staging') return;
      phase = 'started';
      startedAtMs = watch.sign();
      watch.lookIn(body.limits.timeout_ms + RUNNER_GRACE_MS);
      onStarted();
      output.started();
      if (runner) program?.begin(runner);
    },
    data(channel, _offset, bytes) {
      if (phase === 'over') return;
      watch.sign();
      relay.data(channel, bytes);
      if (output.inUse) program?.touch();
    },
    fileEnd(file) {
      watch.sign();
      if (phase !== 'over') output.fileEnd(file);
    },
    inputWindow(limit) {
      watch.sign();
      input.window(limit);
      program?.window(limit);
    },
    inputResumed: (received) => program?.resume(received),
    exit(exit) {
      const broken = exit.failure !== null && !isOfRequest(exit.failure);
      if (broken && phase === 'staging' && moves && exit.failure.started === 'no') {
        refuseNow(failureOf(exit.failure), 'discard');
        return;
      }
      end(relay.isDropped ? withDropped(exit) : exit, broken ? 'discard' : 'reuse');
    },
    lost(reason, why) {
      if (phase === 'over') return;
      if (why?.why === 'memory' && phase === 'started') {
        end(memoryLimitExit(clock.now() - startedAtMs, sent[1], sent[2]), 'discard');
        return;
      }
      if (phase === 'staging' && !input.isWhole) refuseNow(toCaller(reason), 'discard');
      else end(failureExit(toCaller(reason), howStarted()), 'discard');
    },
  };

  /** User code cannot have begun before the runner had the last byte of its input. */
  function howStarted(): Started {
    if (phase === 'started') return 'yes';
    return runner && input.isWhole ? 'unknown' : 'no';
  }

  function close(): void {
    phase = 'over';
    watch.stop();
    relay.over();
    program?.over();
  }

  function end(exit: ExitBody, verdict: Verdict): void {
    if (phase === 'over' || !loan) return;
    close();
    const told = orphaned ? orphansExit(exit) : exit;
    output.exit(told);
    onEnded(told, loan, verdict);
  }

  function refuseNow(failure: Failure, verdict: Verdict): void {
    if (phase === 'over') return;
    close();
    input.drop();
    output.refuse(failure);
    onRefused(failure, loan, verdict);
  }

  function kill(failure: Failure): void {
    if (howStarted() === 'no') refuseNow(failure, runner ? 'discard' : 'unused');
    else end(failureExit(failure, howStarted()), 'discard');
  }

  /** Nothing has run and nothing can: whoever asks is told that it may run elsewhere. */
  function strand(): void {
    if (phase === 'waiting' || !input.isWhole)
      refuseNow(
        new Failure('cancelled', 'Whoever asked for it left before it could begin.'),
        runner ? 'discard' : 'unused',
      );
  }

  /** The agent's own clock: a runner is believed, but not for ever. */
  function look(): void {
    const verdict = judgeSilence({
      stage: cancelled ? 'cancelled' : phase === 'staging' ? 'staging' : 'started',
      silentMs: watch.silentMs,
      allowedMs: stageSilenceMs,
      hasInput: input.isWhole,
      isHeld: output.isHeld,
      isDropped: relay.isDropped,
      sendsFiles: sent[3] > 0,
      interrupted: loan?.runner.interrupted ?? false,
    });
    if (verdict.do === 'wait') watch.lookIn(verdict.delayMs);
    else if (verdict.do === 'kill') kill(verdict.failure);
    else if (verdict.do === 'time_out')
      end(silentTimeoutExit(clock.now() - startedAtMs, sent[1], sent[2]), 'discard');
    else {
      if (verdict.do === 'drop') relay.drop();
      else watch.sign();
      watch.lookIn(RUNNER_GRACE_MS);
    }
  }

  /** Whoever lost its link did not come back in time. */
  function onOrphaned(): void {
    if (deps.detach) return;
    orphaned = true;
    cancel('orphaned');
  }

  function cancel(reason: string): void {
    if (cancelled || phase === 'over') return;
    cancelled = true;
    if (runner) {
      runner.cancel(reason);
      if (reason === 'reader_stalled') relay.drop();
      watch.lookIn(RUNNER_GRACE_MS);
    } else refuseNow(new Failure('cancelled', 'Cancelled before it started.'), 'unused');
  }

  return {
    run(given) {
      if (phase !== 'waiting') return false;
      loan = given;
      const isFree = session?.do === 'open' || session?.do === 'files';
      if (!isFree && !Object.hasOwn(given.ready.languages, body.language)) {
        refuseNow(new Failure('no_language', `The sandbox has no ${body.language}.`), 'unused');
        return true;
      }
      phase = 'staging';
      watch.sign();
      watch.lookIn(stageSilenceMs);
      try {
        runner = given.runner.start(given.nextStream(), body, handlers);
      } catch (error) {
        // The sandbox was lost in this very turn.
        refuseNow(
          toCaller(error instanceof Failure ? error : new Failure('sandbox_lost', 'The sandbox was lost.')),
          'discard',
        );
        return true;
      }
      // Behind START: what one turn sends leaves in the order in which it began, and the caller waits for the program.
      port.accept();
      relay.begin(runner);
      input.begin(runner);
      return true;
    },
    data(bytes) {
      if (phase === 'over') return true;
      if (!input.count(bytes.byteLength)) {
        cancel('protocol_error');
        return false;
      }
      watch.sign();
      input.push(bytes);
      return true;
    },
    end: () => phase === 'over' || input.isExact,
    window: first.window,
    cancel,
    refuse: (failure) => refuseNow(failure, 'unused'),
    signal: (number) => program?.signal(number, loan?.runner.interrupted ?? false) ?? 'takes_none',
    kill,
    leave(why) {
      input.unlink();
      first.leave(why);
      strand();
    },
    strand,
    feed(writer, writerPort) {
      if (!program) throw takesNoInput();
      return program.feed(writer, writerPort);
    },
    output,
    get outputBytes() {
      return relay.bytes;
    },
  };
}
