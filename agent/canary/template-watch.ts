import { Failure, troubleForCallers } from '../../shared/errors.ts';
import { createBackoff } from '../backoff.ts';
import type { Clock } from '../clock.ts';
import { orAborted } from '../deadline.ts';
import type { Log } from '../log.ts';
import type { Pool } from '../pool/pool.ts';
import { createCanaryLog } from './canary-log.ts';
import { NoSandbox, type Round } from './canary-round.ts';
import { brokenPromises, type Finding, isPolicy, worst } from './findings.ts';
import { nextVerdict, PROVEN_FOR_MS, type Verdict, type VerdictEvent } from './verdict.ts';

/** What a canary found of one template, and when, by the wall clock. */
export type Report = { readonly atMs: number; readonly findings: readonly Finding[] };

/** Looks at what others say, and at the age of what was proven. */
export const LOOK_MS = 5_000;
/** A canary that came to no end, or found something broken, is tried again this soon, and ever more slowly. */
export const RETRY_BASE_MS = 2_000;
export const RETRY_MAX_MS = 60_000;
/** Whoever does not lead waits so long for the word of who does before it looks itself. */
export const FOLLOWER_PATIENCE_MS = 15_000;
const FOLLOWER_LOOK_MS = 250;

const PENDING: Verdict = { phase: 'pending' };
const NO_WORD = { saidMs: Number.NaN, atMs: Number.NEGATIVE_INFINITY };

export type TemplateWatchDeps = {
  pool: Pool;
  clock: Clock;
  random: () => number;
  log: Log;
  everyMs: number;
  /** The first canary waits so long. */
  firstAfterMs?: number | undefined;
  /** Runs one canary, when its turn comes. */
  run: (round: Round) => Promise<readonly Finding[]>;
  /** What the one that leads has found for this hash; null where this agent looks by itself. */
  heard: (hash: string) => Report | 'nothing yet' | null;
  /** The verdict, or what is known, is another. */
  onChange: () => void;
};

/** One template of one cluster: when its canaries run, and what follows from them. */
export type TemplateWatch = {
  /** Of the template as it is now: one that changed is pending again. */
  readonly verdict: Verdict;
  /** Null until something was found. */
  readonly report: Report | null;
  /** The pool or the template may have changed. */
  wake(): void;
  /** Resolves with the next change of the verdict or of the pool. */
  changed(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
};

export function createTemplateWatch(deps: TemplateWatchDeps): TemplateWatch {
  const { pool, clock, log, everyMs } = deps;
  const name = pool.template.name;
  const said = createCanaryLog(log, name);
  const stop = new AbortController();
  const backoff = createBackoff({
    baseMs: RETRY_BASE_MS,
    maxMs: Math.min(RETRY_MAX_MS, everyMs),
    random: deps.random,
  });
  // Where canaries are rarer, the next one has its time too.
  const provenForMs = Math.max(PROVEN_FOR_MS, 2 * everyMs);
  const waiting = new Set<() => void>();
  let hash = pool.template.hash;
  let verdict: Verdict = PENDING;
  let report: Report | null = null;
  /** What the one that leads said last: its time by that one's clock, and by this one's, for which nothing is yet to come. */
  let word = NO_WORD;
  /** When it was last proven, as `now` counts: it does not age with a wall clock that is set forward. */
  let provenMs = 0;
  let sinceMs = clock.now();
  let dueMs = sinceMs + (deps.firstAfterMs ?? 0);
  let lacked = false;
  let running: { abort: AbortController; over: Promise<void> } | undefined;
  let cancel = clock.after(0, turn);

  function turn(): void {
    if (stop.signal.aborted) return;
    cancel();
    cancel = clock.after(LOOK_MS, turn);
    if (hash !== pool.template.hash) begin();
    if (verdict.phase === 'proven' && clock.now() - provenMs > provenForMs) judge({ kind: 'aged' });
    if (running) return;
    const heard = deps.heard(hash);
    if (heard !== null && heard !== 'nothing yet') {
      hear(heard);
      if (isFresh(word.atMs)) return;
    }
    const patientUntilMs = sinceMs + FOLLOWER_PATIENCE_MS;
    const wantedMs = heard === null ? dueMs : Math.max(dueMs, patientUntilMs);
    const waitMs = wantedMs - clock.now();
    // Who leads is known a moment after the start.
    const lookMs = heard === 'nothing yet' && verdict.phase === 'pending' ? FOLLOWER_LOOK_MS : LOOK_MS;
    if (waitMs <= 0) start();
    else if (waitMs < LOOK_MS || lookMs < LOOK_MS) {
      cancel();
      cancel = clock.after(Math.min(waitMs, lookMs), turn);
    }
  }

  /** Clocks differ, and are set: which of two is newer only the stamps of one clock say. */
  function hear({ atMs: saidMs, findings }: Report): void {
    if (saidMs === word.saidMs) return;
    word = { saidMs, atMs: Math.min(saidMs, clock.wall()) };
    if (!isFresh(word.atMs) || (report && isFresh(report.atMs) && report.atMs >= word.atMs)) return;
    take(findings, word.atMs);
    // For whoever leads next.
    dueMs = clock.now() + Math.max(0, everyMs - (clock.wall() - word.atMs));
  }

  /** The template is another one: nothing is known of it. */
  function begin(): void {
    running?.abort.abort(new Failure('cancelled', 'The template changed.'));
    running = undefined;
    hash = pool.template.hash;
    verdict = PENDING;
    report = null;
    word = NO_WORD;
    sinceMs = clock.now();
    dueMs = sinceMs;
    backoff.reset();
    tell();
  }

  /** What is yet to come by a clock that was set back is not. */
  function isFresh(atMs: number): boolean {
    const ageMs = clock.wall() - atMs;
    return ageMs >= 0 && ageMs < Math.min(2 * everyMs + RETRY_MAX_MS, PROVEN_FOR_MS);
  }

  function start(): void {
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, stop.signal]);
    const own = { abort, over: Promise.resolve() };
    running = own;
    own.over = look(pool.template, signal).finally(() => {
      if (running !== own) return;
      running = undefined;
      turn();
    });
  }

  async function look(template: Pool['template'], signal: AbortSignal): Promise<void> {
    const needsAll = template.require.includes('network_policy');
    try {
      const findings = await deps.run({
        template,
        pool,
        signal,
        onSandbox(found) {
          // What was known of the network stands until it is tried again.
          if (!signal.aborted && !needsAll)
            take([...found, ...(report?.findings.filter(isPolicy) ?? [])], clock.wall());
        },
      });
      if (signal.aborted) return;
      const isProof = take(findings, clock.wall());
      said.checked(findings);
      lacked = false;
      if (isProof) backoff.reset();
      dueMs = clock.now() + (isProof ? everyMs : soon());
    } catch (cause) {
      if (signal.aborted) return;
      lacked = cause instanceof NoSandbox;
      dueMs = clock.now() + soon();
      failed(cause);
    }
  }

  /** Half of it for sure: full jitter alone may be nothing. */
  function soon(): number {
    const bound = Math.min(RETRY_MAX_MS, everyMs, RETRY_BASE_MS * 2 ** Math.min(backoff.tries, 10));
    return bound / 2 + Math.min(backoff.next(), bound / 2);
  }

  function failed(cause: unknown): void {
    const detail = said.failed(cause);
    const told = cause instanceof Failure ? troubleForCallers(cause).detail : detail;
    // A pool without sandboxes says why itself; nothing was tried.
    if (!lacked) judge({ kind: 'failed', detail: sentence(`could not be tested here: ${told}`) });
  }

  /** Whether all is found that the template promises. */
  function take(findings: readonly Finding[], atMs: number): boolean {
    report = { atMs, findings };
    const { template } = pool;
    const broken = brokenPromises(template, findings);
    const policy = findings.filter(isPolicy);
    const isProof =
      broken.length === 0 && (!template.require.includes('network_policy') || worst(policy) === 'holds');
    if (isProof) {
      provenMs = clock.now() - Math.max(0, clock.wall() - atMs);
      judge({ kind: 'held', atMs });
    } else if (broken.length > 0) {
      const names = broken.map((each) => each.name).join(', ');
      judge({ kind: 'broke', detail: sentence(`does not hold here (${names}).`) });
    } else judge({ kind: 'failed', detail: sentence('could not be tested here (policy).') });
    deps.onChange();
    return isProof;
  }

  function sentence(rest: string): string {
    return `The isolation that template '${name}' promises ${rest}`;
  }

  function judge(event: VerdictEvent): void {
    const before = verdict;
    verdict = nextVerdict(verdict, event);
    const detail = verdict.phase === 'refused' ? verdict.detail : '';
    const was = before.phase === 'refused' ? before.detail : '';
    if (before.phase === verdict.phase && was === detail) return;
    if (verdict.phase === 'refused') log('isolation_refuses', { template: name, detail });
    else if (before.phase === 'refused') {
      log('isolation_holds_again', { template: name });
      // What was made meanwhile is as it was then.
      if (before.why === 'broken') pool.renew();
    }
    tell();
    deps.onChange();
  }

  function tell(): void {
    for (const each of [...waiting]) each();
  }

  return {
    get verdict() {
      return hash === pool.template.hash ? verdict : PENDING;
    },
    get report() {
      return hash === pool.template.hash ? report : null;
    },
    wake() {
      tell();
      if (hash !== pool.template.hash) turn();
      else if (lacked && !running && pool.trouble === null && pool.counts().idle > 0) {
        lacked = false;
        dueMs = clock.now();
        turn();
      }
    },
    changed(signal) {
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting.add(resolve);
      return orAborted(promise, signal).finally(() => waiting.delete(resolve));
    },
    async close() {
      stop.abort(new Failure('draining', 'The agent is shutting down.'));
      cancel();
      tell();
      await running?.over;
    },
  };
}
