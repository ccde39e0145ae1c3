import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createKubeClient, type KubeClient } from '../../agent/backends/kubernetes/kube-client.ts';
import { loadKubeContexts } from '../../agent/backends/kubernetes/kube-config.ts';
import type { Pod } from '../../agent/backends/kubernetes/kube-objects.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { REAL_KUBECONFIG, TEST_IMAGE } from '../contract/kubernetes-cluster.ts';
import type { Entry, Stack } from '../fakes/stack.ts';

const AGENT = fileURLToPath(new URL('../fakes/agent-process.ts', import.meta.url));

/** The contexts of PODGATE_TEST_KUBECONFIG, each with a namespace of its own for one test file. */
export type RealClusters = AsyncDisposable & {
  /** Contexts, which are the clusters' names here. */
  readonly names: readonly string[];
  readonly namespace: string;
  client(name: string): KubeClient;
  /** Pods that are not being deleted, and those that are. */
  pods(name: string): Promise<Pod[]>;
  create(name: string, kind: string, body: object): Promise<void>;
  remove(name: string, kind: string, object: string): Promise<void>;
};

/** An agent as a process of its own. */
export type AgentProcess = {
  readonly log: readonly Entry[];
  kill(signal: 'SIGKILL' | 'SIGTERM'): Promise<void>;
};

export async function openRealClusters(): Promise<RealClusters> {
  const contexts = await loadKubeContexts(REAL_KUBECONFIG);
  const namespace = `podgate-test-${Math.random().toString(36).slice(2, 10)}`;
  const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  const clients = new Map(contexts.names.map((name) => [name, createKubeClient(contexts.access(name))]));
  const client = (name: string) => clients.get(name) as KubeClient;
  const kindPath = (kind: string) => `/api/v1/namespaces/${namespace}/${kind}`;
  for (const each of clients.values())
    await each.call({
      method: 'POST',
      path: '/api/v1/namespaces',
      body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels } },
    });
  return {
    names: contexts.names,
    namespace,
    client,
    pods: async (name) =>
      (await client(name).call<{ items: Pod[] }>({ method: 'GET', path: kindPath('pods') })).items,
    async create(name, kind, body) {
      await client(name).call({ method: 'POST', path: kindPath(kind), body });
    },
    async remove(name, kind, object) {
      await client(name).call({ method: 'DELETE', path: `${kindPath(kind)}/${object}` });
    },
    async [Symbol.asyncDispose]() {
      for (const each of clients.values()) {
        await each.call({ method: 'DELETE', path: `/api/v1/namespaces/${namespace}` });
        each.access.close();
      }
    },
  };
}

/** A template whose pods a small cluster has room for. */
export function smallTemplate(input: Partial<TemplateInput> = {}): TemplateInput {
  return {
    name: 'default',
    image: TEST_IMAGE,
    resources: { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpus: 0.5 },
    kubernetes: { requests: { cpus: 0.01, memory_mb: 16 } },
    ...input,
  };
}

export type AgentWanted = {
  stack: Stack;
  namespace: string;
  contexts: readonly string[];
  templates: readonly TemplateInput[];
  environment?: Record<string, string>;
  /** Instead of PODGATE_TEST_KUBECONFIG. */
  kubeconfig?: string;
};

export async function startAgentProcess(wanted: AgentWanted): Promise<AgentProcess> {
  const { stack, namespace, contexts, templates, environment } = wanted;
  const names = contexts.map((context) => context.split('=')[0] ?? context);
  const file = join(stack.dir, `templates-${crypto.randomUUID()}.yaml`);
  writeFileSync(file, JSON.stringify({ templates }));
  const kubeconfigs = (wanted.kubeconfig ?? REAL_KUBECONFIG ?? '')
    .split(delimiter)
    .map((path) => resolve(path));
  const child = spawn(process.execPath, [AGENT], {
    env: {
      PATH: process.env.PATH ?? '',
      EXECUTOR_BACKEND: 'kubernetes',
      KUBECONFIG: kubeconfigs.join(delimiter),
      KUBE_CONTEXTS: contexts.join(','),
      KUBERNETES_NAMESPACE: namespace,
      PODGATE_TEMPLATES: file,
      PODGATE_GATEWAY_URL: stack.url,
      PODGATE_AGENT_TOKEN: await stack.agentToken(...names),
      PODGATE_AGENT_PORT: '0',
      // Never the defaults: those are addresses of others.
      PODGATE_CANARY_TARGETS: 'none',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const log: Entry[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    log.push({ of: 'agent', atMs: Date.now(), ...JSON.parse(line) });
    if (process.env.PODGATE_TEST_LOG) process.stderr.write(`${line}\n`);
  });
  return {
    log,
    async kill(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill(signal);
      await once(child, 'exit');
    },
  };
}

export async function shell(command: string): Promise<void> {
  await promisify(execFile)('sh', ['-c', command]);
}
