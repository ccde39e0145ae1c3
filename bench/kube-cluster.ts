import { request } from 'node:https';
import { createKubeClient, type KubeClient } from '../agent/backends/kubernetes/kube-client.ts';
import { type KubeContexts, loadKubeContexts } from '../agent/backends/kubernetes/kube-config.ts';
import { openExec } from '../agent/backends/kubernetes/open-exec.ts';
import { CONTAINER, podSpec } from '../agent/backends/kubernetes/pod-spec.ts';
import { podState } from '../agent/backends/kubernetes/pod-state.ts';
import { createPodWatch, type PodWatch } from '../agent/backends/kubernetes/pod-watch.ts';
import { systemClock } from '../agent/clock.ts';
import { parseTemplate, type Template } from '../shared/template.ts';

/** Of every pod that is measured. */
export const REQUESTED_CPUS = 0.1;
const INSTALLATION = 'bench-plain';
const WAIT_MS = 120_000;
const QUIET_MS = 500;

export const POD_CALLS = ['create', 'exec', 'delete', 'others'] as const;
export type PodCalls = Record<(typeof POD_CALLS)[number], number>;

/** A cluster as the baselines use it: with the agent's own client, and nothing else of the agent. */
export type KubeCluster = AsyncDisposable & {
  readonly context: string;
  readonly client: KubeClient;
  /** A pod that sleeps; resolves when it runs. */
  makePod(): Promise<string>;
  /** Runs a command to its end and gives its stdout. */
  exec(pod: string, command: readonly string[], input?: string): Promise<string>;
  deletePod(pod: string): Promise<void>;
  /** Requests for pods and execs so far by the API server's count, watches and the control plane's own words apart. */
  podCalls(): Promise<PodCalls>;
  /** Names of the pods that are there, those on their way in or out among them. */
  pods(): string;
  /** Resolves when so many pods run at least, none is on its way in or out, and it stays so. */
  settled(running: number): Promise<void>;
};

/** Contexts of KUBECONFIG, at most two. */
export async function benchContexts(): Promise<KubeContexts> {
  return loadKubeContexts(process.env.KUBECONFIG);
}

export async function openKubeCluster(
  contexts: KubeContexts,
  context: string,
  { namespace, image }: { namespace: string; image: string },
): Promise<KubeCluster> {
  await using stack = new AsyncDisposableStack();
  const client = createKubeClient(contexts.access(context));
  stack.defer(() => client.access.close());
  const pods = `/api/v1/namespaces/${namespace}/pods`;
  const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  await client.call({
    method: 'POST',
    path: '/api/v1/namespaces',
    body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels } },
  });
  stack.defer(() => client.call({ method: 'DELETE', path: `/api/v1/namespaces/${namespace}` }));
  const watch: PodWatch = createPodWatch({
    client,
    namespace,
    labelSelector: '',
    clock: systemClock,
    random: Math.random,
    log: () => {},
  });
  stack.defer(() => watch.close());
  await watch.synced;
  const kubernetes = { requests: { cpus: REQUESTED_CPUS, memory_mb: 32 } };
  const template = await parseTemplate({ name: 'plain', image, resources: { memory_mb: 64 }, kubernetes });
  const soon = () => AbortSignal.timeout(WAIT_MS);

  async function makePod(): Promise<string> {
    const name = `plain-${crypto.randomUUID().slice(0, 13)}`;
    await client.call({ method: 'POST', path: pods, body: plainPod(template, name, namespace) });
    await watch.until(name, (pod) => podState(pod).phase === 'running' || undefined, soon());
    return name;
  }

  async function exec(pod: string, command: readonly string[], input?: string): Promise<string> {
    const signal = soon();
    const place = { access: client.access, namespace, pod, container: CONTAINER };
    const stream = await openExec({ ...place, command, signal });
    if (input !== undefined) stream.end(input);
    let out = '';
    for await (const chunk of stream) out += chunk;
    if (stream.status?.exitCode !== 0)
      throw new Error(`${command[0]} ended: ${JSON.stringify(stream.status)}`);
    return out;
  }

  const kept = stack.move();
  return {
    context,
    client,
    makePod,
    exec,
    deletePod: (pod) => client.call({ method: 'DELETE', path: `${pods}/${pod}` }),
    podCalls: () => podCalls(client),
    pods: () =>
      [...watch.all()]
        .map(({ metadata }) => metadata?.name)
        .sort()
        .join(),
    async settled(running) {
      const until = performance.now() + WAIT_MS;
      let sinceMs = Number.POSITIVE_INFINITY;
      while (performance.now() - sinceMs < QUIET_MS) {
        const all = [...watch.all()];
        const rests = all.every(
          (pod) => pod.metadata?.deletionTimestamp === undefined && podState(pod).phase === 'running',
        );
        sinceMs =
          rests && all.length >= running ? Math.min(sinceMs, performance.now()) : Number.POSITIVE_INFINITY;
        if (performance.now() > until) throw new Error(`${all.length} pods, and not ${running} that run`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** The agent's own pod with another command. */
function plainPod(template: Template, name: string, namespace: string): object {
  const lease = { name: '', uid: '' };
  const identity = { name, namespace, installation: INSTALLATION, instance: 'bench', lease, uid: 65_532 };
  const pod = podSpec(template, identity, ['sleep', '600']);
  delete pod.metadata?.ownerReferences;
  return pod;
}

/** Reads apiserver_request_total. What the control plane says on a pod has a subresource of its own: binding, status. */
async function podCalls(client: KubeClient): Promise<PodCalls> {
  const calls: PodCalls = { create: 0, exec: 0, delete: 0, others: 0 };
  const text = await readMetrics(client);
  for (const line of text.split('\n')) {
    if (!line.startsWith('apiserver_request_total{') || !line.includes('resource="pods"')) continue;
    const label = (name: string) => new RegExp(`[{,]${name}="([^"]*)"`).exec(line)?.[1] ?? '';
    // Some distributions tell the control plane's own calls apart. A watch is counted when it ends; lists are the
    // agent's look for pods of the dead, once a minute whatever runs.
    if (label('system_client') !== '' || ['WATCH', 'LIST'].includes(label('verb'))) continue;
    if (!['', 'exec'].includes(label('subresource'))) continue;
    calls[kindOf(label('verb'), label('subresource'))] += Number(line.slice(line.lastIndexOf(' ') + 1));
  }
  return calls;
}

function kindOf(verb: string, subresource: string): (typeof POD_CALLS)[number] {
  if (subresource === 'exec') return 'exec';
  return verb === 'POST' ? 'create' : verb === 'DELETE' ? 'delete' : 'others';
}

async function readMetrics({ access }: KubeClient): Promise<string> {
  const { headers, tls, proxy } = await access.connection();
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  request(`${access.server}/metrics`, { ...tls, headers, ...(proxy && { agent: proxy }) }, (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () => {
      const text = Buffer.concat(chunks).toString();
      if (response.statusCode === 200) resolve(text);
      else reject(new Error(`/metrics answered ${response.statusCode}: ${text.slice(0, 200)}`));
    });
  })
    .on('error', reject)
    .end();
  return promise;
}
