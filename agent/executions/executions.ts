import { Failure } from '../../shared/errors.ts';
import type { ExitBody, FromGateway, StartBody } from '../../shared/messages.ts';
import type { Clock } from '../clock.ts';
import type { Loan, Verdict } from '../pool/lending.ts';
import type { SessionReport } from '../sessions/session-report.ts';
import { createSessions, type Sessions } from '../sessions/sessions.ts';
import { type Admission, type AdmissionPolicy, admit } from './admission.ts';
import { createExecution } from './execution.ts';
import { createExecutionQuestions, type ExecutionQuestions } from './execution-questions.ts';
import { type ExecutionReport, endReport, type ReportedEnd, refusalReport } from './execution-report.ts';
import { outcomeOf } from './exits.ts';
import { createKeyClaims } from './key-claims.ts';
import type { LiveExecution } from './live-execution.ts';
import { createLiveExecutions } from './live-executions.ts';
import type { WriterPort } from './live-input.ts';
import type { ExecutionInput, ExecutionPort } from './port.ts';
import { createRegistry } from './registry.ts';
import { attachTo, feedTo } from './rejoin.ts';
import { Retention } from './retention.ts';
import { waitForSandbox, waitForSession } from './sandbox-wait.ts';
import { createWaitingRoom } from './waiting-room.ts';

export type ExecutionsDeps = {
  clock: Clock;
  policy: AdmissionPolicy;
  /** Called off the way of the execution. */
  onReport: (report: ExecutionReport) => void;
  /** A session began or ended. */
  onSession?: (report: SessionReport) => void;
  /** An execution has begun or ended there, or was refused: its capacity is another, or a grant is free again. */
  onChange: (cluster: string, template: string) => void;
};

/** Every execution of this instance, whatever link it came over. */
export type Executions = ExecutionQuestions & {
  /** Takes or refuses a START. Undefined: it was refused, and the port has been told. */
  start(start: StartBody, port: ExecutionPort): ExecutionInput | undefined;
  /** Takes or refuses an ATTACH. Undefined: the port has been told all there is. */
  attach(request: FromGateway['ATTACH'], port: ExecutionPort): ExecutionInput | undefined;
  /** Takes or refuses an INPUT. Undefined: the port has been told. */
  feed(request: FromGateway['INPUT'], port: ExecutionPort & WriterPort): ExecutionInput | undefined;
  /** CANCEL by id. Resolves when it has ended, or never ran here. */
  cancel(executionId: string, reason: string): Promise<void>;
  /** RESULT_ACK: its output may go, its outcome stays. */
  acknowledge(executionId: string): void;
  running(): number;
  /** Refuses every START from now on. Resolves when nothing runs but terminals. */
  drain(): Promise<void>;
  /**
   * Resolves when no end of an execution is on its way to anybody, and nobody who lost its link may still come for one; or
   * with `signal`.
   */
  allTold(signal: AbortSignal): Promise<void>;
  readonly sessions: Sessions;
  /** Ends what still runs, with this failure, and every session. */
  killAll(failure: Failure): void;
};

export function createExecutions(deps: ExecutionsDeps): Executions {
  const { clock, policy, onReport, onChange } = deps;
  const retention = new Retention();
  const registry = createRegistry({ clock });
  const claims = createKeyClaims({ clock });
  const running = createLiveExecutions();
  /** Over, with a sandbox that is on its way back: what is put off until the caller has the answer. */
  const unanswered = new Map<string, () => void>();
  const sessions = createSessions({ clock, onChange, onReport: deps.onSession ?? (() => {}) });
  const waiting = { clock, sessions, room: createWaitingRoom() };

  function start(start: StartBody, port: ExecutionPort): ExecutionInput | undefined {
    let admission: Admission;
    try {
      admission = check(start);
    } catch (error) {
      const failure = refuse(port, error);
      // The grant that it spent is free again.
      onChange(start.cluster, start.template);
      onReport(refusalReport(start, failure.code, failure.cause));
      return undefined;
    }
    const { session: work } = start;
    // Work of a session runs under its template, whatever START says.
    const live = begin({ ...start, template: admission.pool.template.name }, admission, port);
    if (work && work.do !== 'open') {
      void runWith(live, waitForSession(waiting, start, live.abort.signal, live.execution.kill));
      return live.execution;
    }
    const loan = admission.pool.take(start.principal);
    if (loan) run(live, kept(live, admission, loan));
    else {
      const free = waitForSandbox(waiting, live, admission, port.link);
      void runWith(
        live,
        free.then((given) => kept(live, admission, given)),
      );
    }
    return live.execution;
  }

  /** Where a session opens it keeps its sandbox. */
  function kept({ start }: LiveExecution, { pool }: Admission, loan: Loan): Loan {
    return start.session?.do === 'open' ? sessions.keep(start, start.session, pool, loan) : loan;
  }

  async function runWith(live: LiveExecution, waited: Promise<Loan>): Promise<void> {
    try {
      run(live, await waited);
    } catch (error) {
      live.execution.refuse(asFailure(error));
    }
  }

  function check(start: StartBody): Admission {
    if (registry.has(start.execution_id))
      throw new Failure('duplicate', 'This agent knows the execution already.');
    if (start.key !== undefined && !claims.holds(start.key, start.execution_id))
      throw new Failure('duplicate', 'The key stands for another execution.');
    running.requireOpen();
    const { session: work } = start;
    const ownPool = work && work.do !== 'open' ? sessions.find(start).pool : undefined;
    const admission = admit(start, policy, ownPool);
    if (work?.do === 'open') sessions.requireRoom(start, work);
    if (work?.do === 'terminal') sessions.requireTerminal(start.principal);
    running.requireRoom(start);
    return admission;
  }

  function begin(start: StartBody, admission: Admission, port: ExecutionPort): LiveExecution {
    const arrivedMs = clock.now();
    const execution = createExecution({
      clock,
      admission,
      port,
      retention,
      detach: start.detach,
      onStarted: () => {
        live.record.startedAtMs = clock.now();
      },
      onRefused: (failure, loan, verdict) => refused(live, failure, loan, verdict),
      onEnded: (exit, loan, verdict) => ended(live, exit, loan, verdict),
    });
    const { execution_id, queue_ms, session: work } = start;
    const { limits, rich } = admission.body;
    const told = {
      max_output_bytes: limits.max_output_bytes,
      queue_ms,
      ...(rich && { rich }),
      ...(work?.do === 'python' && { context: work.context }),
    };
    const live: LiveExecution = {
      start,
      record: registry.begin(execution_id, execution.output, told),
      arrivedMs,
      execution,
      acceptedMs: null,
      over: Promise.withResolvers(),
      abort: new AbortController(),
    };
    running.enter(live);
    sessions.enter(start);
    if (start.key !== undefined) claims.began(start.key);
    return live;
  }

  function run(live: LiveExecution, loan: Loan): void {
    live.acceptedMs = clock.now();
    if (!live.execution.run(loan)) void loan.release('unused');
    onChange(live.start.cluster, live.start.template);
  }

  function refused(live: LiveExecution, failure: Failure, loan: Loan | undefined, verdict: Verdict): void {
    if (live.start.key !== undefined) claims.refused(live.start.key);
    registry.forget(live.record);
    live.abort.abort(failure);
    running.leave(live);
    void settle(live, loan, verdict, { outcome: failure.code, refused: true, started: 'no' });
  }

  function ended(live: LiveExecution, exit: ExitBody, loan: Loan, verdict: Verdict): void {
    if (live.start.key !== undefined) claims.ended(live.start.key);
    registry.end(live.record, exit);
    running.leave(live);
    const started = exit.result ? 'yes' : exit.failure.started;
    void settle(live, loan, verdict, { outcome: outcomeOf(exit), refused: false, started });
  }

  /** What is thrown is a refusal. */
  function answered(port: ExecutionPort, take: () => ExecutionInput | undefined): ExecutionInput | undefined {
    try {
      return take();
    } catch (error) {
      refuse(port, error);
      return undefined;
    }
  }

  async function settle(
    live: LiveExecution,
    loan: Loan | undefined,
    verdict: Verdict,
    end: ReportedEnd,
  ): Promise<void> {
    const endedMs = clock.now();
    const { promise, resolve } = Promise.withResolvers<void>();
    unanswered.set(live.start.execution_id, resolve);
    const settled = loan?.release(verdict, promise);
    sessions.leave(live.start);
    onChange(live.start.cluster, live.start.template);
    const became = (await settled) ?? null;
    unanswered.delete(live.start.execution_id);
    onReport(endReport(live, end, loan, became, endedMs, clock.now()));
  }

  return {
    start,
    attach: (request, port) => answered(port, () => attachTo(request, port, running, registry)),
    feed: (request, port) => answered(port, () => feedTo(request, port, running, registry)),
    cancel(executionId, reason) {
      const live = running.get(executionId);
      live?.execution.cancel(reason);
      return live?.over.promise ?? Promise.resolve();
    },
    acknowledge(executionId) {
      unanswered.get(executionId)?.();
      registry.get(executionId)?.output.acknowledge();
    },
    ...createExecutionQuestions(registry, claims, running),
    running: () => running.size,
    drain: running.drain,
    allTold: registry.allTold,
    sessions,
    killAll(failure) {
      running.killAll(failure);
      sessions.endAll();
    },
  };
}

function asFailure(error: unknown): Failure {
  return error instanceof Failure ? error : new Failure('internal', 'The agent failed.', { cause: error });
}

function refuse(port: ExecutionPort, error: unknown): Failure {
  const failure = asFailure(error);
  port.nack(failure.code, failure.detail, failure.retryAfterMs ?? null);
  return failure;
}
