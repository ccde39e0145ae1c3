import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { MAX_FOREIGN_VARIABLES } from '../../agent/backends/kubernetes/foreign-variables.ts';
import type { KubernetesBackend } from '../../agent/backends/kubernetes/kubernetes-backend.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { openFakeCluster, type TestCluster } from '../contract/kubernetes-cluster.ts';
import type { KubeApi } from '../fakes/kube-api/kube-api.ts';
import type { KubeObject } from '../fakes/kube-api/object-store.ts';
import { runOn } from '../fakes/runner-run.ts';

let cluster: TestCluster;
let backend: KubernetesBackend;
let fake: KubeApi;
const log = vi.fn();
const soon = () => AbortSignal.timeout(20_000);
const make = async () => backend.create(await cluster.template(), soon());
const pods = () => fake.store('pods').list(cluster.namespace);
const SHOW = 'import json, os\nprint(json.dumps(dict(os.environ)))';

beforeAll(async () => {
  cluster = await openFakeCluster();
  fake = cluster.fake as KubeApi;
});
beforeEach(async () => {
  fake.mutate = undefined;
  log.mockClear();
  backend = await cluster.backend({ log });
});
afterAll(() => cluster[Symbol.asyncDispose]());

/** A webhook that puts variables into every container. */
const giving = (env: () => object[]) => (pod: KubeObject) => ({
  ...pod,
  spec: {
    ...pod.spec,
    containers: pod.spec.containers.map((each: { env?: object[] }) => ({
      ...each,
      env: [...(each.env ?? []), ...env()],
    })),
  },
});

test('variables that a webhook puts into pods reach no user code, and are said once', async () => {
  fake.mutate = giving(() => [
    { name: 'API_KEY', value: 'injected' },
    { name: 'HTTPS_PROXY', value: 'http://proxy' },
  ]);
  for (let round = 0; round < 2; round += 1) {
    const before = new Set(pods().map(({ metadata }) => metadata.name));
    const sandbox = await make();
    const runner = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch: 1 });
    await runner.ready;
    const environment = JSON.parse((await runOn(runner, 1, SHOW, {})).stdout);
    expect(environment).toMatchObject({ HOME: '/tmp' });
    expect(Object.keys(environment)).not.toContain('API_KEY');
    expect(Object.values(environment).join()).not.toMatch(/injected|proxy/);
    // The one that was given them unasked is gone.
    await expect.poll(() => pods().filter(({ metadata }) => !before.has(metadata.name)).length).toBe(1);
    runner.close();
    await backend.destroy(sandbox);
  }
  expect(log.mock.calls.filter(([event]) => event === 'variables_dropped')).toEqual([
    ['variables_dropped', { names: ['API_KEY', 'HTTPS_PROXY'] }],
  ]);
});

test.for([
  ['has other names each time', 'ever other variables', 1],
  ['gives more than may be', 'too many variables', MAX_FOREIGN_VARIABLES + 1],
] as const)('a webhook that %s has its pods refused, and none stays', async ([, words, count]) => {
  let n = 0;
  fake.mutate = giving(() =>
    Array.from({ length: count }, () => {
      n += 1;
      return { name: `DRAWN_${n}`, value: 'x' };
    }),
  );
  await expect(make()).rejects.toMatchObject({
    code: 'policy_denied',
    detail: expect.stringContaining(words),
  });
  await expect.poll(() => pods().length).toBe(0);
});

test('a secret among the variables, or a token among the mounts, has the pod refused and removed', async () => {
  fake.mutate = giving(() => [{ name: 'KEY', valueFrom: { secretKeyRef: { name: 'keys', key: 'key' } } }]);
  await expect(make()).rejects.toMatchObject({ code: 'policy_denied' });
  fake.mutate = (pod) => ({
    ...pod,
    spec: {
      ...pod.spec,
      volumes: [
        ...pod.spec.volumes,
        { name: 'token', projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } },
      ],
      containers: [
        {
          ...pod.spec.containers[0],
          volumeMounts: [
            ...pod.spec.containers[0].volumeMounts,
            { name: 'token', mountPath: '/var/run/token' },
          ],
        },
      ],
    },
  });
  await expect(make()).rejects.toMatchObject({
    code: 'policy_denied',
    detail: expect.stringContaining("mounts a service account's token at /var/run/token"),
  });
  await expect.poll(() => pods().length).toBe(0);
});

test('containers that a webhook puts beside the sandbox are said once, and are no reason to refuse it', async () => {
  const sidecar = {
    name: 'mesh',
    env: [{ name: 'TOKEN', value: 'x' }],
    envFrom: [{ secretRef: { name: 'x' } }],
  };
  fake.mutate = (pod) => ({
    ...pod,
    spec: {
      ...pod.spec,
      containers: [...pod.spec.containers, sidecar],
      initContainers: [{ name: 'mesh-init' }],
    },
  });
  for (let round = 0; round < 2; round += 1) await backend.destroy(await make());
  const said = log.mock.calls.filter(([event]) => event === 'other_containers');
  expect(said).toEqual([['other_containers', { containers: ['mesh', 'mesh-init'] }]]);
  expect(log.mock.calls.map(([event]) => event)).not.toContain('variables_dropped');
});

test('a sandbox is gone when it is destroyed, however long a webhook lets pods take to end', async () => {
  fake.mutate = (pod) => ({ ...pod, spec: { ...pod.spec, terminationGracePeriodSeconds: 600 } });
  await backend.destroy(await make());
  await expect.poll(() => pods().length).toBe(0);
});
