import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Fleet, type FleetAgent, type FleetGateway, startFleet } from '../fakes/fleet.ts';
import { holdRun } from '../fakes/held-run.ts';
import { createKubeApi, type KubeApi } from '../fakes/kube-api/kube-api.ts';
import { until } from '../fakes/until.ts';
import { ask } from './suite.ts';
import { testWireFaults } from './wire-faults.ts';

const CLUSTER = 'test';
const START_MS = 120_000;
const TEST_MS = 90_000;
const TEMPLATE = {
  name: 'default',
  image: 'docker.io/library/python:lab',
  reuse: 'reset' as const,
  resources: { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpus: 0.5 },
  pool: { min: 1, max: 2 },
};

// The rows of when-things-break.test.ts that do not end with a link, with pods for sandboxes: agent and gateway are
// processes, the API server and its kubelet are the test's own.
describe('When things break, with pods on the test API server:', () => {
  let fleet: Fleet;
  let api: KubeApi;
  let folder: string;
  const gateway = () => fleet.gateways[0] as FleetGateway;
  const agent = () => fleet.agents[0] as FleetAgent;
  const pods = () => api.store('pods').list('default');

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'podgate-kube-'));
    api = await createKubeApi({ bookmarkMs: 200 });
    const kubeconfig = join(folder, 'kubeconfig');
    await writeFile(kubeconfig, api.kubeconfig());
    fleet = await startFleet({
      gateways: 1,
      agents: [
        {
          cluster: CLUSTER,
          variables: {
            EXECUTOR_BACKEND: 'kubernetes',
            KUBECONFIG: kubeconfig,
            KUBERNETES_NAMESPACE: 'default',
          },
        },
      ],
      tls: true,
      templates: [TEMPLATE],
      variables: { PODGATE_HEARTBEAT_MS: '1000' },
    });
  }, START_MS);
  afterAll(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await api?.[Symbol.asyncDispose]();
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
    'an API server that cuts every exec is not seen in an answer either',
    async () => {
      const asked = ask(fleet, 'import time; time.sleep(2); print("whole")', { timeout_ms: 20_000 });
      await until(() => asked.runs() === 1);
      api.exec.drop();
      const { status, body } = await asked.answer;
      expect([status, body.stdout, asked.runs()]).toEqual([200, 'whole\n', 1]);
    },
    TEST_MS,
  );

  test(
    'a caller who goes away ends the program and all it started',
    async () => {
      const held = await holdRun({ url: fleet.url, key: fleet.key }, { cluster: CLUSTER });
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
      expect(pods()).toEqual([]);
    },
    TEST_MS,
  );
});
