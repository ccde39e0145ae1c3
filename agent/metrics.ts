import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { TemplateAnnouncement } from '../shared/announcement.ts';
import type { Cluster } from './cluster.ts';
import type { ExecutionReport } from './executions/execution-report.ts';
import type { Link } from './link/link.ts';
import type { Pool } from './pool/pool.ts';
import { SANDBOX_STATES } from './pool/sandbox-state.ts';
import type { SessionReport } from './sessions/session-report.ts';

export type MetricsDeps = {
  clusters: () => Iterable<Cluster>;
  links: () => readonly Link[];
  running: () => number;
  sessionsIn: (pool: Pool) => number;
};

/** What an agent measures of itself. Gauges are read when somebody asks. */
export type Metrics = {
  readonly contentType: string;
  render(): Promise<string>;
  observe(report: ExecutionReport): void;
  observeSession(report: SessionReport): void;
};

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const PLACE = ['cluster', 'template'] as const;
type Place = { cluster: string; template: string };

export function createMetrics(deps: MetricsDeps): Metrics {
  const registry = new Registry();
  const registers = [registry];
  measurePools(deps, registers);
  measureCanaries(deps, registers);
  measureAgent(deps, registers);
  return {
    contentType: registry.contentType,
    render: () => registry.metrics(),
    observe: measureExecutions(deps, registers),
    observeSession: measureSessions(deps, registers),
  };
}

function measureExecutions({ clusters }: MetricsDeps, registers: Registry[]): Metrics['observe'] {
  const executions = new Counter({
    name: 'podgate_agent_executions_total',
    help: 'Executions by outcome, refusals by code',
    labelNames: [...PLACE, 'outcome'],
    registers,
  });
  const phases = new Histogram({
    name: 'podgate_agent_phase_seconds',
    help: 'Time per phase: accept (START to ACCEPT), start (to STARTED), run (to EXIT), reset (to a settled sandbox)',
    labelNames: [...PLACE, 'phase'],
    buckets: SECONDS,
    registers,
  });
  return ({ start: { cluster, template }, outcome, refused, acceptMs, startMs, runMs, resetMs }) => {
    // A refused START may name anything: labels are only what this agent serves.
    const known = [...clusters()].some((one) => one.name === cluster && one.pool(template));
    const labels = known ? { cluster, template } : { cluster: '', template: '' };
    executions.inc({ ...labels, outcome });
    if (refused) return;
    for (const [phase, ms] of [
      ['accept', acceptMs],
      ['start', startMs],
      ['run', runMs],
      ['reset', resetMs],
    ] as const)
      if (ms !== null) phases.observe({ ...labels, phase }, ms / 1_000);
  };
}

function measureSessions(
  { clusters, sessionsIn }: MetricsDeps,
  registers: Registry[],
): Metrics['observeSession'] {
  const sessions = new Counter({
    name: 'podgate_agent_sessions_total',
    help: 'Sessions that began, and those that ended, by why',
    labelNames: [...PLACE, 'event'],
    registers,
  });
  new Gauge({
    name: 'podgate_agent_sessions',
    help: 'Sessions that live: each has a sandbox to itself',
    labelNames: PLACE,
    registers,
    collect() {
      this.reset();
      eachPool(clusters(), (labels, pool) => this.set(labels, sessionsIn(pool)));
    },
  });
  return ({ start: { cluster, template }, end }) =>
    sessions.inc({ cluster, template, event: end ? end.why : 'began' });
}

function measurePools({ clusters }: MetricsDeps, registers: Registry[]): void {
  new Gauge({
    name: 'podgate_agent_sandboxes',
    help: 'Sandboxes by state',
    labelNames: [...PLACE, 'state'],
    registers,
    collect() {
      this.reset();
      eachPool(clusters(), (labels, pool) => {
        const counts = pool.counts();
        for (const state of SANDBOX_STATES)
          if (state !== 'gone') this.set({ ...labels, state }, counts[state]);
      });
    },
  });
  new Gauge({
    name: 'podgate_agent_slots',
    help: 'Executions that could begin now, and those that wait for a sandbox',
    labelNames: [...PLACE, 'kind'],
    registers,
    collect() {
      this.reset();
      eachPool(clusters(), (labels, pool) => {
        this.set({ ...labels, kind: 'free' }, pool.capacity());
        this.set({ ...labels, kind: 'waiting' }, pool.counts().waiting);
      });
    },
  });
  new Gauge({
    name: 'podgate_agent_refuses',
    help: 'Templates that cannot serve now, by the code that callers get',
    labelNames: [...PLACE, 'code'],
    registers,
    collect() {
      this.reset();
      eachPool(
        clusters(),
        (labels, { trouble }) => trouble && this.set({ ...labels, code: trouble.code }, 1),
      );
    },
  });
}

function measureCanaries({ clusters }: MetricsDeps, registers: Registry[]): void {
  new Gauge({
    name: 'podgate_agent_isolation',
    help: 'What the last canary found, one for each promise: the series of its state (holds, broken, unknown) is 1',
    labelNames: [...PLACE, 'finding', 'state'],
    registers,
    collect() {
      this.reset();
      eachIsolation(clusters(), (labels, { findings }) => {
        for (const { name: finding, state } of findings) this.set({ ...labels, finding, state }, 1);
      });
    },
  });
  new Gauge({
    name: 'podgate_agent_isolation_checked_timestamp_seconds',
    help: 'When the last canary found what it found',
    labelNames: PLACE,
    registers,
    collect() {
      this.reset();
      eachIsolation(clusters(), (labels, { checked_at }) => this.set(labels, checked_at));
    },
  });
  new Counter({
    name: 'podgate_agent_canaries_total',
    help: 'Canaries by what came of them: reported, or failed to try anything',
    labelNames: ['cluster', 'result'],
    registers,
    collect() {
      this.reset();
      for (const { name: cluster, canary } of clusters())
        for (const result of ['reported', 'failed'] as const)
          if (canary) this.inc({ cluster, result }, canary.rounds[result]);
    },
  });
}

function measureAgent({ links, running }: MetricsDeps, registers: Registry[]): void {
  new Gauge({
    name: 'podgate_agent_links',
    help: 'Links to gateways by phase',
    labelNames: ['phase'],
    registers,
    collect() {
      this.reset();
      for (const { phase } of links()) this.inc({ phase });
    },
  });
  new Gauge({
    name: 'podgate_agent_running',
    help: 'Executions that run or wait for a sandbox',
    registers,
    collect() {
      this.set(running());
    },
  });
  new Gauge({
    name: 'podgate_agent_memory_bytes',
    help: 'Resident memory of the agent process',
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
}

function eachPool(clusters: Iterable<Cluster>, see: (labels: Place, pool: Pool) => void): void {
  for (const cluster of clusters)
    for (const pool of cluster.pools()) see({ cluster: cluster.name, template: pool.template.name }, pool);
}

function eachIsolation(
  clusters: Iterable<Cluster>,
  see: (labels: Place, isolation: NonNullable<TemplateAnnouncement['isolation']>) => void,
): void {
  for (const { name: cluster, canary, pools } of clusters)
    for (const { template } of pools()) {
      const isolation = canary?.isolation(template.name);
      if (isolation) see({ cluster, template: template.name }, isolation);
    }
}
