import type { Pod } from '../../agent/backends/kubernetes/kube-objects.ts';
import type { Cluster, ExecuteRequest, ExecuteResult } from '../../client/types.ts';
import { eventually } from '../fakes/eventually.ts';
import { type Stack, startStack } from '../fakes/stack.ts';
import { type StreamedRun, streamRun } from '../fakes/streamed-run.ts';
import {
  type AgentProcess,
  type AgentWanted,
  openRealClusters,
  type RealClusters,
  startAgentProcess,
} from './real-clusters.ts';

/** Real clusters, a gateway, and agents that serve the ones from the other. */
export type Serving = AsyncDisposable & {
  readonly clusters: RealClusters;
  readonly stack: Stack;
  start(wanted: Omit<AgentWanted, 'stack' | 'namespace'> & { namespace?: string }): Promise<AgentProcess>;
  /** The cluster as callers see it. */
  listed(name: string): Promise<Cluster | undefined>;
  /** Pods of the namespace that nobody has deleted. */
  live(name: string): Promise<Pod[]>;
  /** Resolves when so many pods run at least. */
  running(name: string, count: number): Promise<unknown>;
  /** Resolves when a sandbox of the first template waits. */
  warm(name: string): Promise<unknown>;
  run(cluster: string, code: string, rest?: Omit<ExecuteRequest, 'code'>): Promise<ExecuteResult>;
  stream(cluster: string, code: string, rest?: Omit<ExecuteRequest, 'code'>): StreamedRun;
  /** Ends the agents, and waits until no pod is left of them. */
  rest(): Promise<void>;
};

export const say = (text: string) => process.stderr.write(`${text}\n`);

export async function openServing(): Promise<Serving> {
  const clusters = await openRealClusters();
  const stack = await startStack({ agents: [] });
  let agents: AgentProcess[] = [];
  const listed = async (name: string) =>
    (await stack.podgate.clusters.list()).clusters.find((each) => each.name === name);
  const live = async (name: string) =>
    (await clusters.pods(name)).filter(({ metadata }) => metadata?.deletionTimestamp === undefined);
  const patient = { timeout_ms: 60_000, queue_timeout_ms: 60_000 };
  return {
    clusters,
    stack,
    async start(wanted) {
      const agent = await startAgentProcess({ stack, namespace: clusters.namespace, ...wanted });
      agents.push(agent);
      return agent;
    },
    listed,
    live,
    running: (name, count) =>
      eventually(
        async () => (await live(name)).filter(({ status }) => status?.phase === 'Running').length >= count,
      ),
    warm: (name) => eventually(async () => (await listed(name))?.templates[0]?.slots_free),
    run: (cluster, code, rest) => stack.run(code, { ...patient, cluster, ...rest }),
    stream: (cluster, code, rest) => streamRun(stack, { ...patient, cluster, code, ...rest }),
    async rest() {
      await Promise.all(agents.map((agent) => agent.kill('SIGTERM')));
      agents = [];
      for (const name of clusters.names)
        await eventually(async () => (await clusters.pods(name)).length === 0);
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(agents.map((agent) => agent.kill('SIGTERM')));
      await stack[Symbol.asyncDispose]();
      await clusters[Symbol.asyncDispose]();
    },
  };
}
