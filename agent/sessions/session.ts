import { Failure } from '../../shared/errors.ts';
import { MAX_SESSION_TTL_SECONDS } from '../../shared/limits.ts';
import type { StartBody } from '../../shared/messages.ts';
import type { SessionState, SessionWork } from '../../shared/session-messages.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import { createDeadline } from '../deadline.ts';
import type { Loan } from '../pool/lending.ts';
import type { Pool } from '../pool/pool.ts';
import { type HeardExit, hearingExit } from './heard-exit.ts';
import { createRunnerTerm, type RunnerTerm } from './runner-term.ts';
import { ENDINGS, type SessionEnd, type SessionReport } from './session-report.ts';
import { requireRoom, type Underway } from './underway.ts';

/** A runner that did not end a piece of work in time has so long still, before its session is given up. */
export const LATE_EXIT_MS = 15_000;
const MAX_TTL_MS = MAX_SESSION_TTL_SECONDS * 1_000;
/** How often a sandbox whose stream is being replaced is looked at. */
const LOOK_MS = 20;

/** What a session may live or be idle, whatever its gateway asks for. */
export function boundedTtlMs(ttlMs: number): number {
  return Math.min(ttlMs, MAX_TTL_MS);
}

export type SessionDeps = {
  clock: Clock;
  start: StartBody;
  work: Extract<SessionWork, { do: 'open' }>;
  pool: Pool;
  loan: Loan;
  /** It is over, once. */
  onEnded: (why: SessionEnd) => void;
  onReport: (report: SessionReport) => void;
};

/** A sandbox that one principal keeps, and the executions in it. */
export class Session {
  readonly id: string;
  readonly principal: string;
  readonly holder: string;
  readonly cluster: string;
  readonly pool: Pool;
  readonly #clock: Clock;
  readonly #loan: Loan;
  readonly #idleMs: number | null;
  readonly #createdMs: number;
  readonly #onEnded: (why: SessionEnd) => void;
  readonly #onReport: (report: SessionReport) => void;
  readonly #start: StartBody;
  readonly #ttlMs: number;
  readonly #term: RunnerTerm;
  #works = 0;
  /** What ends a piece of work that is under way, and what it is. */
  readonly #work = new Map<(failure: Failure) => void, Underway>();
  #expiresMs: number;
  #cancelExpiry: CancelTimer = () => {};
  #cancelIdle: CancelTimer = () => {};
  #isOver = false;
  #over: Promise<void> | undefined;

  constructor({ clock, start, work, pool, loan, onEnded, onReport }: SessionDeps) {
    this.id = work.id;
    this.principal = start.principal;
    this.holder = start.holder;
    this.cluster = start.cluster;
    this.pool = pool;
    this.#clock = clock;
    this.#loan = loan;
    this.#idleMs = work.idle_ms === null ? null : boundedTtlMs(work.idle_ms);
    this.#onEnded = onEnded;
    this.#onReport = onReport;
    this.#start = start;
    this.#ttlMs = boundedTtlMs(work.ttl_ms);
    this.#createdMs = clock.now();
    this.#expiresMs = this.#createdMs + this.#ttlMs;
    this.#term = createRunnerTerm({ clock, runner: loan.runner, nextStream: loan.nextStream });
    this.#armExpiry();
    this.#armIdle();
    this.#report(null);
    void loan.runner.ended.then(() => this.end('lost'));
  }

  get over(): boolean {
    return this.#isOver;
  }

  state(): SessionState {
    // Both add up to the same at any time.
    const livesMs = Math.round(this.#expiresMs - this.#createdMs);
    const livedMs = Math.round(this.#clock.now() - this.#createdMs);
    const createdMsAgo = Math.min(Math.max(0, livedMs), livesMs);
    return {
      session_id: this.id,
      cluster: this.cluster,
      template: this.pool.template.name,
      created_ms_ago: createdMsAgo,
      expires_in_ms: livesMs - createdMsAgo,
      idle_ms: this.#idleMs,
      running: this.#work.size,
    };
  }

  get terminals(): { name: string; execution_id: string }[] {
    return [...this.#work.values()].flatMap(({ terminal }) => terminal ?? []);
  }

  /**
   * Its sandbox for one piece of work, as soon as it can be reached. `kill` is called where the session ends before the
   * work does. Rejects with `busy` beyond MAX_SESSION_WORK and for a context that is not free, and with what became of the session.
   */
  async lend(
    work: SessionWork,
    executionId: string,
    withinMs: number,
    signal: AbortSignal,
    kill: (failure: Failure) => void,
  ): Promise<Loan> {
    this.#requireAlive();
    requireRoom([...this.#work.values()], work);
    this.#work.set(kill, {
      context: work.do === 'python' ? work.context : null,
      terminal: work.do === 'terminal' ? { name: work.name, execution_id: executionId } : null,
    });
    this.#works += 1;
    this.#cancelIdle();
    try {
      if (this.#loan.runner.interrupted) await this.#reached(withinMs, signal);
      this.#requireAlive();
    } catch (error) {
      this.#give(kill);
      throw error;
    }
    const heard = hearingExit(this.#loan.runner);
    return {
      sandboxId: this.#loan.sandboxId,
      runner: heard.runner,
      ready: this.#loan.ready,
      nextStream: this.#loan.nextStream,
      release: (verdict) => {
        this.#give(kill);
        if (verdict !== 'discard' || !heard.began) return Promise.resolve('kept');
        void this.#outlive(heard);
        return Promise.resolve('discarded');
      },
    };
  }

  /**
   * A piece of work was given up. Where its runner had said so the sandbox is broken; where it had not, it may be busy
   * with ending what grows as fast as it is killed: what else lives in the session is not given up for that at once.
   */
  async #outlive({ exited, cancel }: HeardExit): Promise<void> {
    const silent = Promise.withResolvers<'silent'>();
    const stop = this.#clock.after(LATE_EXIT_MS, () => silent.resolve('silent'));
    cancel();
    const said = await Promise.race([exited, silent.promise]);
    stop();
    if (said !== 'late') await this.end('lost');
  }

  /** It lives on for so long from now; never shorter than it would have, and a day in all at most. */
  extend(ttlMs: number): void {
    const untilMs = Math.min(this.#clock.now() + ttlMs, this.#createdMs + MAX_TTL_MS);
    if (this.over || untilMs <= this.#expiresMs) return;
    this.#expiresMs = untilMs;
    this.#armExpiry();
    this.#term.extend(untilMs);
  }

  /** Ends it and all that runs in it. Resolves when its sandbox is on its way out. */
  end(why: SessionEnd): Promise<void> {
    // What it ends gives its sandbox back in this very turn.
    if (!this.#isOver) {
      this.#isOver = true;
      this.#over = this.#end(why);
    }
    return this.#over ?? Promise.resolve();
  }

  async #end(why: SessionEnd): Promise<void> {
    this.#cancelExpiry();
    this.#cancelIdle();
    this.#term.stop();
    this.#onEnded(why);
    const failure = new Failure('sandbox_lost', ENDINGS[why]);
    for (const kill of [...this.#work.keys()]) kill(failure);
    const livedMs = Math.round(this.#clock.now() - this.#createdMs);
    await this.#loan.release('discard');
    this.#report({ why, livedMs, works: this.#works });
  }

  #report(end: SessionReport['end']): void {
    const { sandboxId } = this.#loan;
    const [ttlMs, idleMs, start] = [this.#ttlMs, this.#idleMs, this.#start];
    this.#onReport({ start, sessionId: this.id, sandboxId, ttlMs, idleMs, end });
  }

  #requireAlive(): void {
    if (this.over) throw new Failure('no_session', 'The session is over.');
  }

  #give(kill: (failure: Failure) => void): void {
    this.#work.delete(kill);
    if (this.#work.size === 0 && !this.over) this.#armIdle();
  }

  #armExpiry(): void {
    this.#cancelExpiry();
    this.#cancelExpiry = this.#clock.after(
      this.#expiresMs - this.#clock.now(),
      () => void this.end('expired'),
    );
  }

  #armIdle(): void {
    this.#cancelIdle();
    if (this.#idleMs !== null)
      this.#cancelIdle = this.#clock.after(this.#idleMs, () => void this.end('idle'));
  }

  async #reached(withinMs: number, signal: AbortSignal): Promise<void> {
    const late = () =>
      new Failure('backend_unavailable', 'The sandbox of the session cannot be reached now.');
    using deadline = createDeadline(this.#clock, withinMs, late, signal);
    while (this.#loan.runner.interrupted) {
      deadline.signal.throwIfAborted();
      await new Promise<void>((resolve) => this.#clock.after(LOOK_MS, resolve));
    }
  }
}
