import type { ClusterAnnouncement, TemplateAnnouncement } from '../../shared/announcement.ts';
import type { Backend } from '../backends/backend.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Pool } from '../pool/pool.ts';
import { readBoard, writeBoard } from './board-text.ts';
import { NoSandbox, type Round, runRound } from './canary-round.ts';
import { type Finding, worst } from './findings.ts';
import { guardPool } from './guarded-pool.ts';
import type { CanaryTargets } from './targets.ts';
import { createTemplateWatch, type Report, type TemplateWatch } from './template-watch.ts';
import { createTurns } from './turns.ts';

export const CANARY_EVERY_MS = 600_000;
/** Where nobody waits for the first canary it leaves the start to those who want to run something. */
export const FIRST_REPORT_AFTER_MS = 5_000;
/** Canaries of one cluster that run at once. Each has at most two sandboxes beside the pool's. */
export const CANARIES_AT_ONCE = 2;

/** What the link takes of a sentence. */
const MAX_DETAIL_CHARS = 1_024;

export type CanaryOptions = {
  /** `report` looks and says, and refuses nobody. */
  readonly policy: 'refuse' | 'report';
  readonly everyMs: number;
  readonly targets: CanaryTargets;
};

export type CanaryDeps = CanaryOptions & {
  backend: Backend;
  clock: Clock;
  random: () => number;
  log: Log;
  onChange: () => void;
  run?: typeof runRound | undefined;
};

/** Proves the isolation of a cluster's templates, at start and again and again. */
export type Canary = {
  /** Watches the pool's template, and gives the pool as callers may have it. */
  guard(pool: Pool): Pool;
  /** Something of a pool may have changed. */
  wake(template: string): void;
  /** Of one template; null until something was found. */
  isolation(template: string): TemplateAnnouncement['isolation'];
  /** Of all of them together: each promise as it is where it is worst. */
  summary(): ClusterAnnouncement['isolation'];
  /** Canaries that ran, by what came of them. */
  readonly rounds: Readonly<Record<'reported' | 'failed', number>>;
  /** Resolves when nothing is left of canaries whose pools were closed. */
  ended(): Promise<void>;
};

export function createCanary(deps: CanaryDeps): Canary {
  const { backend, clock, onChange, run = runRound } = deps;
  const watches = new Map<string, { pool: Pool; watch: TemplateWatch }>();
  const turns = createTurns(CANARIES_AT_ONCE, clock);
  const rounds = { reported: 0, failed: 0 };
  let board: { text: string; reports: ReadonlyMap<string, Report> } = { text: '', reports: new Map() };
  let written = '';
  const closing = new Set<Promise<void>>();

  /** A template whose sandboxes do not come keeps no other from being looked at, and from serving. */
  async function runInTurn(round: Round, pool: Pool): Promise<readonly Finding[]> {
    using turn = await turns.enter({ canTry: () => hasSandbox(pool) }, round.signal);
    round.signal.throwIfAborted();
    try {
      const signal = AbortSignal.any([round.signal, turn.signal]);
      const findings = await run(deps, { ...round, signal });
      rounds.reported += 1;
      return findings;
    } catch (cause) {
      if (turn.signal.aborted && !round.signal.aborted) throw noneYet(turn.signal.reason);
      rounds.failed += 1;
      throw cause;
    }
  }

  function heard(hash: string): Report | 'nothing yet' | null {
    if (!backend.board || backend.board.leads()) return null;
    const text = backend.board.read() ?? '';
    if (text !== board.text) board = { text, reports: readBoard(text) };
    return board.reports.get(hash) ?? 'nothing yet';
  }

  /** Who leads later has it at hand then. */
  function publish(): void {
    onChange();
    if (!backend.board) return;
    const reports = [...watches.values()].flatMap(({ pool, watch }) =>
      watch.report ? [[pool.template.hash, watch.report] as const] : [],
    );
    const text = writeBoard(reports);
    if (text === written) return;
    written = text;
    backend.board.write(text);
  }

  function guard(pool: Pool): Pool {
    const { name } = pool.template;
    const watch = createTemplateWatch({
      ...deps,
      pool,
      firstAfterMs: deps.policy === 'report' ? FIRST_REPORT_AFTER_MS : 0,
      run: (round) => runInTurn(round, pool),
      heard,
      onChange: publish,
    });
    watches.set(name, { pool, watch });
    function onClosed(over: Promise<void>): void {
      if (watches.get(name)?.watch === watch) watches.delete(name);
      closing.add(over);
      void over.then(() => closing.delete(over));
    }
    return guardPool({ pool, watch, refuses: deps.policy === 'refuse', onClosed });
  }

  function summary(): ClusterAnnouncement['isolation'] {
    const reports = [...watches].flatMap(([name, { watch }]) =>
      watch.report ? [{ name, ...watch.report }] : [],
    );
    if (reports.length === 0) return { checked_at: null, findings: [] };
    const names = [...new Set(reports.flatMap(({ findings }) => findings.map((each) => each.name)))];
    const oldestMs = Math.min(...reports.map(({ atMs }) => atMs));
    return { checked_at: oldestMs / 1_000, findings: names.map((name) => worstOf(name, reports)) };
  }

  return {
    guard,
    wake: (template) => watches.get(template)?.watch.wake(),
    isolation(template) {
      const report = watches.get(template)?.watch.report;
      if (!report) return null;
      const { atMs, findings } = report;
      return { checked_at: atMs / 1_000, state: worst(findings), findings: [...findings] };
    },
    summary,
    rounds,
    async ended() {
      await Promise.all(closing);
    },
  };
}

function hasSandbox(pool: Pool): boolean {
  const { idle, taken, resetting, unreached } = pool.counts();
  return idle + taken + resetting + unreached > 0;
}

function noneYet(cause: unknown): NoSandbox {
  return new NoSandbox('at_capacity', 'No sandbox came for the canary so far.', { cause });
}

type Named = Report & { readonly name: string };

/** One promise over all templates; where it is not kept everywhere it says which templates it is about. */
function worstOf(finding: string, reports: readonly Named[]): Finding {
  const found = reports.flatMap(({ name, findings }) =>
    findings.filter((each) => each.name === finding).map((each) => ({ ...each, template: name })),
  );
  const state = worst(found);
  const such = found.filter((each) => each.state === state);
  const detail = such[0]?.detail ?? '';
  if (such.length === reports.length || detail === '') return { name: finding, state, detail };
  const where = such.map(({ template }) => template).join(', ');
  return { name: finding, state, detail: `${where}: ${detail}`.slice(0, MAX_DETAIL_CHARS) };
}
