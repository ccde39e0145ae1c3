import { randomUUID } from 'node:crypto';
import type { ClusterAnnouncement } from '../shared/announcement.ts';
import { Failure } from '../shared/errors.ts';
import type { Secret } from '../shared/secret.ts';
import { type Clock, systemClock } from './clock.ts';
import { type Cluster, type ClusterOptions, createCluster } from './cluster.ts';
import { createProver } from './credential.ts';
import { createExecutions } from './executions/executions.ts';
import { type AgentHttp, serveAgentHttp } from './http.ts';
import { type DialOptions, dial } from './link/dial.ts';
import { createLink, type Link } from './link/link.ts';
import { createLinkSet } from './link/link-set.ts';
import type { LinkEnd, LinkState } from './link/link-state.ts';
import { createPeers } from './link/peers.ts';
import type { Log } from './log.ts';
import { createMetrics } from './metrics.ts';
import type { PoolCounts } from './pool/pool.ts';
import { logReport, logSession } from './report.ts';
import type { RunnerClient, RunnerClientDeps } from './runner/client.ts';
import { createSlots } from './slots.ts';

/** What a drained agent has left to send may take so long. */
const FLUSH_MS = 2_000;
const FLUSH_LOOK_MS = 10;
/** A gateway that does not echo a heartbeat within this sends no START either. */
const HEARD_MS = 2_000;

export type AgentOptions = {
  readonly clusters: readonly ClusterOptions[];
  readonly gateway: Readonly<Pick<DialOptions, 'url' | 'ca' | 'proxy'>>;
  /** The credential bundle; asked again whenever a gateway wants proof. */
  readonly credential: () => Secret;
  /** Null: no HTTP port. */
  readonly http: { readonly host: string; readonly port: number } | null;
  /** Ceiling of the output that one execution may send back, per stream. */
  readonly maxOutputBytes: number;
  /** Such as `podgate/0.5.0`. */
  readonly software: string;
  readonly log: Log;
  readonly clock?: Clock;
  /** 0 ≤ n < 1. */
  readonly random?: () => number;
  /** One run of the agent; chosen when absent. */
  readonly instance?: string;
  readonly openRunner?: (deps: RunnerClientDeps) => RunnerClient;
};

export type AgentStatus = {
  readonly instance: string;
  readonly draining: boolean;
  readonly running: number;
  readonly links: readonly {
    readonly serverId: string | null;
    readonly phase: LinkState['phase'];
    readonly roundTripMs: number | null;
  }[];
  /** Why a link was refused or lost, the newest; null while none was. */
  readonly lastLinkEnd: LinkEnd | null;
  readonly clusters: readonly (ClusterAnnouncement & {
    readonly pools: Readonly<Record<string, PoolCounts>>;
  })[];
  /** Why it cannot serve, if it cannot. */
  readonly obstacles: readonly string[];
};

export type RunningAgent = {
  readonly instance: string;
  /** Of the HTTP port; null without one. */
  readonly httpPort: number | null;
  status(): AgentStatus;
  /** Takes nothing more, waits for what runs, at most `deadlineMs`, and closes. */
  drain(deadlineMs: number): Promise<void>;
  /** Ends at once: what runs is killed, every sandbox destroyed. */
  close(): Promise<void>;
};

/** Starts an agent. Rejects where its HTTP port cannot be had; a gateway that cannot be reached is tried again for ever. */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  const { gateway, credential, software, maxOutputBytes } = options;
  const { clock = systemClock, random = Math.random } = options;
  const instance = options.instance ?? randomUUID();
  const log: Log = (event, fields) => options.log(event, { instance, ...fields });
  const clusters = new Map<string, Cluster>();
  const slots = createSlots(clusters, clock, log);
  const executions = createExecutions({
    clock,
    policy: {
      maxOutputBytes,
      hasCluster: (cluster) => clusters.has(cluster),
      findPool: (cluster, template) => clusters.get(cluster)?.pool(template),
    },
    onChange: slots.freed,
    onReport(report) {
      metrics.observe(report);
      logReport(log, report);
    },
    onSession(report) {
      metrics.observeSession(report);
      logSession(log, report);
    },
  });
  const prove = createProver({
    credential,
    clusters: () => [...clusters.keys()],
    gatewayUrl: gateway.url,
    instance,
    clock,
    log,
  });
  const peers = createPeers(clock);
  const linkSet = createLinkSet({
    clock,
    random,
    log,
    onJoined(link) {
      slots.joined(link);
      if (drainUntilMs !== undefined) tellDrain(link, drainUntilMs);
    },
    onGone: slots.gone,
    connect: (handlers) =>
      createLink({
        ...handlers,
        dial: () => dial({ ...gateway, software }),
        prove,
        instance,
        software,
        clusters: [...clusters.keys()],
        executions,
        peers,
        clock,
        log,
        onStart: slots.spent,
      }),
  });
  const metrics = createMetrics({
    clusters: () => clusters.values(),
    links: linkSet.links,
    running: executions.running,
    sessionsIn: executions.sessions.countOf,
  });
  let draining = false;
  let drainUntilMs: number | undefined;
  let http: AgentHttp | undefined;
  let closed: Promise<void> | undefined;
  const closing = new AbortController();

  function obstacles(): string[] {
    const found: string[] = [];
    if (draining) found.push('The agent is shutting down.');
    if (!linkSet.links().some(({ phase }) => phase === 'joined')) found.push('No gateway is connected.');
    const announced = [...clusters.values()].map((cluster) => cluster.announcement());
    if (announced.every(({ state }) => state === 'unavailable'))
      for (const { name, detail } of announced) found.push(`Cluster '${name}': ${detail ?? 'unavailable'}`);
    return found;
  }

  function tellDrain(link: Link, untilMs: number): void {
    link.send('DRAIN', { deadline_ms: Math.max(0, Math.round(untilMs - clock.now())) });
  }

  async function flush(links: readonly Link[]): Promise<void> {
    const untilMs = clock.now() + FLUSH_MS;
    while (clock.now() < untilMs && links.some((link) => !link.flushed))
      await new Promise<void>((resolve) => clock.after(FLUSH_LOOK_MS, resolve));
  }

  async function within(ms: number, done: Promise<unknown>): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const cancel = clock.after(ms, resolve);
    await Promise.race([done, late]);
    cancel();
  }

  async function shutDown(): Promise<void> {
    draining = true;
    slots.hold();
    linkSet.hold();
    void executions.drain();
    const why = 'The agent was shut down before the program ended.';
    executions.killAll(new Failure('draining', why));
    await flush(linkSet.links());
    linkSet.close();
    await Promise.all([...clusters.values()].map((cluster) => cluster.close()));
    await http?.close();
    log('agent_stopped');
  }

  function close(): Promise<void> {
    closing.abort();
    closed ??= shutDown();
    return closed;
  }

  async function drain(deadlineMs: number): Promise<void> {
    if (!draining) {
      draining = true;
      const untilMs = clock.now() + deadlineMs;
      // Links are dialled as before: what runs reaches its callers over new ones where others break.
      drainUntilMs = untilMs;
      log('agent_draining', { deadline_ms: deadlineMs, running: executions.running() });
      slots.hold();
      for (const link of linkSet.links()) tellDrain(link, untilMs);
      const ended = executions.drain();
      // A START that crossed DRAIN is on its way: it must find somebody who refuses it, or its caller never knows.
      const heard = Promise.all(linkSet.links().map((link) => link.heard()));
      await within(Math.min(HEARD_MS, deadlineMs), heard);
      await within(Math.max(0, untilMs - clock.now()), ended);
      await within(Math.max(0, untilMs - clock.now()), executions.allTold(closing.signal));
    }
    await close();
  }

  if (options.http) http = await serveAgentHttp({ ...options.http, metrics, readiness: obstacles });
  for (const cluster of options.clusters) {
    const onChange = (template?: string) => slots.changed(cluster.name, template);
    const deps = { ...cluster, clock, random, log, onChange, openRunner: options.openRunner };
    clusters.set(cluster.name, createCluster(deps));
  }
  log('agent_started', { software, clusters: [...clusters.keys()], gateway: gateway.url.origin });
  linkSet.start();

  return {
    instance,
    httpPort: http?.port ?? null,
    drain,
    close,
    status: () => ({
      instance,
      draining,
      running: executions.running(),
      links: linkSet.links().map(({ serverId, phase, roundTripMs }) => ({ serverId, phase, roundTripMs })),
      lastLinkEnd: linkSet.lastEnd(),
      clusters: [...clusters.values()].map((cluster) => ({
        ...cluster.announcement(),
        pools: Object.fromEntries([...cluster.pools()].map((pool) => [pool.template.name, pool.counts()])),
      })),
      obstacles: obstacles(),
    }),
  };
}
