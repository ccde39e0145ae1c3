import {
  benchContexts,
  type KubeCluster,
  openKubeCluster,
  POD_CALLS,
  type PodCalls,
  REQUESTED_CPUS,
} from '../kube-cluster.ts';
import { type Front, startFront } from '../processes.ts';
import { ms, type Row } from '../row.ts';
import { p50, p99, throughput, timed } from '../stats.ts';
import { warmUp } from '../warm-up.ts';

const IMAGE = process.env.KUBERNETES_IMAGE ?? 'docker.io/library/python:3.13-slim';
const MAX_CONTEXTS = 2;
const POOL = 4;
const WARM_ROUNDS = 20;
const RESETS_PER_ROUND = 10;
const POD_ROUNDS = 15;
const QUIET_RUNS = 200;
const RATE_TOTAL = 24;
const RATE_ROUNDS = 3;
const RATE_IN_FLIGHT = 8;
const CODE = 'print(1)';
/** The kubelet looks at its containers once a second: rounds that fall into step with it would all be lucky, or none. */
const PACE_MS = [300, 1_300] as const;

/** What the scheduler reserves is the weight of a pod against the rest of its node: pods of the baselines have the same. */
const SMALL = `resources: {memory_mb: 64, workspace_mb: 8, tmp_mb: 8}, kubernetes: {requests: {cpus: ${REQUESTED_CPUS}, memory_mb: 32}}`;
const TEMPLATES = `
templates:
  - {name: reset, image: "${IMAGE}", reuse: reset, pool: {min: 1, max: 2}, ${SMALL}}
  - {name: paused, image: "${IMAGE}", reuse: reset, pool: {min: 1, max: 1}, ${SMALL}}
  - {name: single, image: "${IMAGE}", reuse: single_use, pool: {min: ${POOL}, max: ${RATE_IN_FLIGHT}}, ${SMALL}}
  - {name: empty, image: "${IMAGE}", reuse: single_use, pool: {min: 0, max: 1}, ${SMALL}}
`;
/** Pods that the agent keeps while nothing runs, at least. */
const AT_REST = 2 + POOL;

type Bench = { front: Front; cluster: KubeCluster; name: string };

/** On the contexts of KUBECONFIG: warm executions beside an exec call and a pod per run, on the same cluster. */
export function kubernetes(): Promise<Row[]> {
  return onClusters(MAX_CONTEXTS, async (bench) => [...(await warm(bench)), await quiet(bench)]);
}

/** On the current context: executions that need a pod of their own, beside a pod per run. */
export function pods(): Promise<Row[]> {
  return onClusters(1, async (bench) => [...(await emptyPool(bench)), ...(await sustained(bench))]);
}

async function onClusters(max: number, measure: (bench: Bench) => Promise<Row[]>): Promise<Row[]> {
  if (process.env.KUBECONFIG === undefined) {
    process.stderr.write('skipped: KUBECONFIG is not set\n');
    return [];
  }
  const contexts = await benchContexts();
  const chosen = [contexts.current, ...contexts.names.filter((name) => name !== contexts.current)];
  const places = chosen.slice(0, max).map((context, index) => ({ context, name: `kube-${index + 1}` }));
  const namespace = `podgate-bench-${crypto.randomUUID().slice(0, 8)}`;
  await using opened = new AsyncDisposableStack();
  const clusters: KubeCluster[] = [];
  for (const { context } of places)
    clusters.push(opened.use(await openKubeCluster(contexts, context, { namespace, image: IMAGE })));
  const front = opened.use(
    await startFront({
      templates: TEMPLATES,
      warm: ['reset', 'paused', 'single'],
      clusters: places.map(({ name }) => name),
      environment: {
        EXECUTOR_BACKEND: 'kubernetes',
        KUBE_CONTEXTS: places.map(({ name, context }) => `${name}=${context}`).join(','),
        KUBERNETES_NAMESPACE: namespace,
      },
    }),
  );
  const rows: Row[] = [];
  for (const [index, cluster] of clusters.entries()) {
    const bench = { front, cluster, name: places[index]?.name ?? '' };
    await cluster.settled(AT_REST);
    rows.push(...(await measure(bench)));
  }
  return rows;
}

async function run({ front, name }: Bench, template: string): Promise<void> {
  const body = { code: CODE, template, cluster: name, timeout_ms: 10_000, queue_timeout_ms: 60_000 };
  const answer = (await front.client.post('/v1/execute', body)) as { stdout: string };
  if (answer.stdout !== '1\n') throw new Error(`${template}: answered ${JSON.stringify(answer)}`);
}

/** A pod for one program, as services without a pool do it: create, stage, run, look for files, delete. */
async function podPerRun({ cluster }: Bench): Promise<void> {
  const pod = await cluster.makePod();
  await cluster.exec(pod, ['sh', '-c', 'cat > /tmp/main.py'], CODE);
  if ((await cluster.exec(pod, ['python3', '/tmp/main.py'])) !== '1\n') throw new Error('a wrong answer');
  await cluster.exec(pod, ['ls', '-l', '/tmp']);
  await cluster.deletePod(pod);
}

function pace(): Promise<void> {
  const [from, to] = PACE_MS;
  return new Promise((resolve) => setTimeout(resolve, from + Math.random() * (to - from)));
}

function row(name: Row['name'], own: number[], baseline: number[], what: string): Row {
  return {
    name,
    figure: `${ms(p50(own))} p50, ${ms(p99(own))} p99`,
    baseline: `${ms(p50(baseline))} p50, ${ms(p99(baseline))} p99, ${what}`,
    value: p50(baseline) / p50(own),
  };
}

async function warm(bench: Bench): Promise<Row[]> {
  const { cluster } = bench;
  const waiting = await cluster.makePod();
  const [reset, single, execs, pods] = [[], [], [], []] as [number[], number[], number[], number[]];
  await warmUp(() => run(bench, 'reset'));
  for (let round = 0; round < WARM_ROUNDS; round += 1) {
    // The pods of the round before are gone, and what replaces them is there: a kubelet at work delays whatever runs.
    await cluster.settled(AT_REST);
    for (let turn = 0; turn < RESETS_PER_ROUND; turn += 1) reset.push(await timed(() => run(bench, 'reset')));
    execs.push(await timed(() => cluster.exec(waiting, ['python3', '-c', CODE])));
    // A sandbox that waits, and none on its way while the clock runs.
    await cluster.settled(AT_REST);
    single.push(await timed(() => run(bench, 'single')));
    if (round < POD_ROUNDS) pods.push(await timed(() => podPerRun(bench)));
  }
  await cluster.deletePod(waiting);
  return [
    row('Kubernetes, warm print(1), reset', reset, execs, 'an exec call'),
    row('Kubernetes, warm print(1), single use', single, execs, 'an exec call'),
    row('Kubernetes, warm print(1), reset, and a pod per run', reset, pods, 'a pod'),
  ];
}

/**
 * Refill is paused: the only sandbox that the pool may have is the one that is reset and used. Other pools replace what
 * nobody has used for a minute: a count in which pods came or went is taken again.
 */
async function quiet(bench: Bench): Promise<Row> {
  const { cluster } = bench;
  let calls = 0;
  let pods: string;
  do {
    await cluster.settled(AT_REST);
    pods = cluster.pods();
    const before = await cluster.podCalls();
    for (let turn = 0; turn < QUIET_RUNS; turn += 1) await run(bench, 'paused');
    const after = await cluster.podCalls();
    calls = POD_CALLS.reduce((sum, kind) => sum + after[kind] - before[kind], 0);
  } while (cluster.pods() !== pods);
  return {
    name: 'Kubernetes, API calls between START and EXIT',
    figure: `${calls} in ${QUIET_RUNS} executions, reset, context ${cluster.context}`,
    baseline: 'apiserver_request_total',
    value: calls,
  };
}

async function emptyPool(bench: Bench): Promise<Row[]> {
  const own: number[] = [];
  const plain: number[] = [];
  for (let round = 0; round < POD_ROUNDS; round += 1) {
    own.push(await timed(() => run(bench, 'empty')));
    await pace();
    plain.push(await timed(() => podPerRun(bench)));
    await pace();
  }
  return [row('Kubernetes, empty pool, and a pod per run', own, plain, 'a pod')];
}

/** More executions than sandboxes wait: what the cluster makes is what there is. In turns, as machines differ from minute to minute. */
async function sustained(bench: Bench): Promise<Row[]> {
  const { cluster } = bench;
  const own: number[] = [];
  const pods: number[] = [];
  const calls: PodCalls = { create: 0, exec: 0, delete: 0, others: 0 };
  for (let round = 0; round < RATE_ROUNDS; round += 1) {
    await cluster.settled(AT_REST);
    pods.push(await throughput(RATE_TOTAL, RATE_IN_FLIGHT, () => podPerRun(bench)));
    await cluster.settled(AT_REST);
    const before = await cluster.podCalls();
    const rate = await throughput(RATE_TOTAL, RATE_IN_FLIGHT, () => run(bench, 'single'));
    // Those that waited when it began were made before.
    own.push((rate * (RATE_TOTAL - POOL)) / RATE_TOTAL);
    await cluster.settled(AT_REST);
    const after = await cluster.podCalls();
    for (const kind of POD_CALLS) calls[kind] += (after[kind] - before[kind]) / RATE_TOTAL / RATE_ROUNDS;
  }
  // Whoever deletes a pod asks for it; its kubelet deletes it again when it is gone.
  const agents = calls.create + calls.exec + calls.delete / 2;
  const kubelets = calls.delete / 2 + calls.others;
  return [
    {
      name: 'Kubernetes, API calls per execution, single use',
      figure: `${agents.toFixed(1)}: ${calls.create.toFixed(1)} create, ${calls.exec.toFixed(1)} exec, ${(calls.delete / 2).toFixed(1)} delete`,
      baseline: `${kubelets.toFixed(1)} more by the kubelet`,
      value: agents,
    },
    {
      name: 'Kubernetes, executions a second, single use',
      figure: `${p50(own).toFixed(1)}/s, ${RATE_IN_FLIGHT} in flight`,
      baseline: `${p50(pods).toFixed(1)}/s a pod per run, as many in flight`,
      value: p50(own) / p50(pods),
    },
  ];
}
