import { randomUUID } from 'node:crypto';
import { Failure } from '../shared/errors.ts';
import { faultText } from '../shared/fault-text.ts';
import { createLineWriter } from '../shared/log-lines.ts';
import { createKubernetesClusters, type LeaseTimes } from './backends/kubernetes/kubernetes-clusters.ts';
import { createLocalBackend } from './backends/local/local-backend.ts';
import { type Clock, systemClock } from './clock.ts';
import type { ClusterOptions } from './cluster.ts';
import type { AgentConfig } from './config.ts';
import { createJsonLog, type Log } from './log.ts';
import { type RunningAgent, startAgent } from './start-agent.ts';
import { createTemplateSource } from './templates/template-source.ts';

export type RunAgentDeps = {
  config: AgentConfig;
  /** Such as `podgate/0.5.0`. */
  software: string;
  /** Ends the start of what takes long to look at. */
  signal?: AbortSignal;
  log?: Log;
  clock?: Clock;
  leaseTimes?: LeaseTimes;
};

/** Makes the backend and the templates that a configuration asks for, and starts the agent on them. */
export async function startConfiguredAgent(deps: RunAgentDeps): Promise<RunningAgent> {
  const { config, software, clock = systemClock } = deps;
  const log = deps.log ?? logToStdout(clock);
  const { proxyVariables } = config;
  if (proxyVariables.length > 0) log('proxies_passed_over', { variables: proxyVariables });
  const instance = randomUUID();
  const places = await createPlaces(deps, instance, clock, log);
  const clusters: ClusterOptions[] = [];
  try {
    for (const place of places) {
      // One each: a cluster closes its own.
      const templates = await createTemplateSource({
        file: config.templatesFile,
        variables: config.templateVariables,
        clock,
        log,
      });
      clusters.push({ ...place, templates, canary: config.canary });
    }
    return await startAgent({
      clusters,
      gateway: { url: config.gatewayUrl, ca: config.gatewayCa, proxy: config.gatewayProxy },
      credential: config.credential,
      http: config.http,
      maxOutputBytes: config.maxOutputBytes,
      software,
      log,
      clock,
      instance,
    });
  } catch (error) {
    for (const { templates } of clusters) templates.close();
    await Promise.all(places.map(({ backend }) => backend.close()));
    throw error;
  }
}

/**
 * The process of `podgate agent`: runs until SIGTERM or SIGINT, then drains. Resolves with the exit code when nothing
 * is left. A second signal ends what still runs at once.
 */
export async function runAgent(deps: RunAgentDeps): Promise<number> {
  // Held before anything starts: a signal in between must not end the process with sandboxes alive.
  const signalled = Promise.withResolvers<void>();
  const starting = new AbortController();
  const again = Promise.withResolvers<void>();
  let signals = 0;
  const onSignal = () => {
    signals += 1;
    if (signals > 1) return again.resolve();
    signalled.resolve();
    starting.abort(new Failure('draining', 'The agent was told to end while it started.'));
  };
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, onSignal);
  const log = deps.log ?? logToStdout(deps.clock);
  // A fault of ours in what nobody waits for: it ends at its own deadline, and not with the process and all that runs.
  const onFault = (cause: unknown) => log('fault', { cause: faultText(cause) });
  process.on('unhandledRejection', onFault);
  // The clock's timers keep no process alive, and an agent between two dials has nothing else.
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    const agent = await startConfiguredAgent({ ...deps, log, signal: starting.signal });
    await signalled.promise;
    const drained = agent.drain(deps.config.drainMs);
    await Promise.race([drained, again.promise]);
    await agent.close();
    await drained;
    return 0;
  } catch (error) {
    if (error === starting.signal.reason) return 0;
    throw error;
  } finally {
    clearInterval(alive);
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.off(name, onSignal);
    process.off('unhandledRejection', onFault);
  }
}

function logToStdout({ wall }: Clock = systemClock): Log {
  return createJsonLog({ write: createLineWriter(process.stdout), wall });
}

type Place = Omit<ClusterOptions, 'templates'>;

async function createPlaces(
  { config, signal, leaseTimes }: RunAgentDeps,
  instance: string,
  clock: Clock,
  log: Log,
): Promise<readonly Place[]> {
  const { backend, cluster, path, unsafe, memoryCgroup } = config;
  if (backend === 'local') {
    const local = await createLocalBackend({ instance, path, unsafe, memoryCgroup, signal, clock, log });
    return [{ name: cluster, backend: local }];
  }
  const deps = { config, instance, clock, random: Math.random, log };
  if (backend === 'docker') {
    const { createDockerCluster } = await import('./backends/docker/docker-cluster.ts');
    return [{ name: cluster, ...createDockerCluster(deps) }];
  }
  return createKubernetesClusters({ ...deps, leaseTimes });
}
