import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { TemplateInput } from '../../shared/template.ts';
import {
  openFakeCluster,
  openRealCluster,
  REAL_KUBECONFIG,
  TEST_IMAGE,
  type TestCluster,
} from '../contract/kubernetes-cluster.ts';
import { type Fleet, type FleetAgent, type FleetGateway, startFleet } from '../fakes/fleet.ts';
import { holdRun } from '../fakes/held-run.ts';
import { startTcpProxy, type TcpProxy } from '../fakes/tcp-proxy.ts';
import { until } from '../fakes/until.ts';
import { ask } from './suite.ts';
import { testWireFaults } from './wire-faults.ts';

const CLUSTER = 'test';
const START_MS = 120_000;
const TEST_MS = 90_000;
const TEMPLATE: TemplateInput = {
  name: 'default',
  image: TEST_IMAGE,
  reuse: 'reset',
  resources: { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpus: 0.5 },
  pool: { min: 1, max: 2 },
};
/** Their interpreter is the image's, and they may use sockets: else they could not count themselves. */
const IN_REAL_PODS: Partial<TemplateInput> = {
  python: '/usr/bin/python3',
  network: 'cluster',
  kubernetes: { requests: { cpus: 0.01, memory_mb: 32 } },
};
/** An address of this machine that a real cluster's pods reach: programs count themselves there. */
const HOST = process.env.PODGATE_TEST_HOST;

/** On the way to the API server. */
let apiWire: TcpProxy;

/** The same kubeconfig, with a wire in between. Its certificates are where `folder` says. */
async function behindWire(text: string, folder: string): Promise<string> {
  const config = parse(text);
  const context = config.contexts.find((each: { name: string }) => each.name === config['current-context']);
  const { cluster } = config.clusters.find((each: { name: string }) => each.name === context.context.cluster);
  const { user } = config.users.find((each: { name: string }) => each.name === context.context.user);
  const server = new URL(cluster.server);
  apiWire = await startTcpProxy(Number(server.port));
  cluster.server = `https://${server.hostname}:${apiWire.port}`;
  for (const [of, key] of [
    [cluster, 'certificate-authority'],
    [user, 'client-certificate'],
    [user, 'client-key'],
  ])
    if (of[key] !== undefined) of[key] = resolve(folder, of[key]);
  return JSON.stringify(config);
}

// The rows of when-things-break.test.ts that do not end with a link, with pods for sandboxes: agent and gateway are
// processes. The API server and its kubelet are the test's own, or a real cluster's whose node is this machine.
describe.for([
  ['the test API server', false],
  ['a real cluster', true],
] as const)('When things break, with pods on %s:', ([, isReal]) => {
  const trouble =
    isReal && !(REAL_KUBECONFIG && HOST) && 'PODGATE_TEST_KUBECONFIG and PODGATE_TEST_HOST name none';
  if (trouble) {
    test(trouble, (context) => context.skip(trouble));
    return;
  }
  let fleet: Fleet;
  let cluster: TestCluster;
  let folder: string;
  const gateway = () => fleet.gateways[0] as FleetGateway;
  const agent = () => fleet.agents[0] as FleetAgent;
  const pods = async () => {
    const path = `/api/v1/namespaces/${cluster.namespace}/pods`;
    return (await cluster.client.call<{ items: unknown[] }>({ method: 'GET', path })).items.length;
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'podgate-kube-'));
    cluster = await (isReal ? openRealCluster : openFakeCluster)();
    const path = resolve(REAL_KUBECONFIG?.split(delimiter)[0] ?? '');
    const text = cluster.fake?.kubeconfig() ?? (await readFile(path, 'utf8'));
    const kubeconfig = join(folder, 'kubeconfig');
    await writeFile(kubeconfig, await behindWire(text, dirname(path)));
    fleet = await startFleet({
      gateways: 1,
      agents: [
        {
          cluster: CLUSTER,
          variables: {
            EXECUTOR_BACKEND: 'kubernetes',
            KUBECONFIG: kubeconfig,
            KUBERNETES_NAMESPACE: cluster.namespace,
            // Never the defaults: those are addresses of others.
            PODGATE_CANARY_TARGETS: 'none',
          },
        },
      ],
      tls: true,
      templates: [isReal ? { ...TEMPLATE, ...IN_REAL_PODS } : TEMPLATE],
      variables: { PODGATE_HEARTBEAT_MS: '1000' },
      counterHost: isReal ? HOST : undefined,
    });
  }, START_MS);
  afterAll(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
    await apiWire?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  }, START_MS);
  afterEach(async () => {
    agent().wire.accept(true);
    agent().wire.stall(false);
    agent().wire.corrupt(0);
    agent().wire.setRate(Number.POSITIVE_INFINITY);
    await fleet.ready();
  }, TEST_MS);

  testWireFaults({ fleet: () => fleet, gateway, agent });

  test(
    'a link that is cut in the middle of a program is not seen in its answer',
    async () => {
      const code = 'import time\nfor part in range(20):\n    print(part, flush=True)\n    time.sleep(0.1)';
      const asked = ask(fleet, code, { timeout_ms: 20_000 });
      await until(() => asked.runs() === 1);
      agent().wire.cut();
      const { status, body } = await asked.answer;
      const parts = Array.from({ length: 20 }, (_, part) => `${part}\n`).join('');
      expect([status, body.stdout, asked.runs()]).toEqual([200, parts, 1]);
    },
    TEST_MS,
  );

  test(
    'a wire to the API server that is cut, and every exec with it, is not seen in an answer either',
    async () => {
      const asked = ask(fleet, 'import time; time.sleep(2); print("whole")', { timeout_ms: 20_000 });
      await until(() => asked.runs() === 1);
      expect(apiWire.connections).toBeGreaterThan(0);
      apiWire.cut();
      const { status, body } = await asked.answer;
      expect([status, body.stdout, asked.runs()]).toEqual([200, 'whole\n', 1]);
    },
    TEST_MS,
  );

  test(
    'a caller who goes away ends the program and all it started',
    async () => {
      await using held = await holdRun({ url: fleet.url, key: fleet.key }, { cluster: CLUSTER });
      expect(held.alive()).toBe(1);
      await held.leave();
      await expect.poll(() => held.alive(), { timeout: 20_000 }).toBe(0);
    },
    TEST_MS,
  );

  test(
    'an agent that is told to stop ends what runs well, and leaves no pod',
    async () => {
      const asked = ask(fleet, 'import time; time.sleep(2); print("whole")', { timeout_ms: 20_000 });
      await until(() => asked.runs() === 1);
      agent().kill('SIGTERM');
      const { status, body } = await asked.answer;
      expect([status, body.stdout]).toEqual([200, 'whole\n']);
      expect(await agent().ended()).toBe(0);
      // One is there until its kubelet has ended it.
      await expect.poll(pods, { timeout: 10_000 }).toBe(0);
    },
    TEST_MS,
  );
});
