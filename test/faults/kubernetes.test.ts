import { once } from 'node:events';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Sandbox } from '../../agent/backends/backend.ts';
import {
  createKubeClient,
  type KubeClient,
  type WatchOptions,
} from '../../agent/backends/kubernetes/kube-client.ts';
import type { KubernetesBackend } from '../../agent/backends/kubernetes/kubernetes-backend.ts';
import { type ExecOptions, openExec } from '../../agent/backends/kubernetes/open-exec.ts';
import { CONTAINER } from '../../agent/backends/kubernetes/pod-spec.ts';
import { createPodWatch, SHORT_WATCH_MS } from '../../agent/backends/kubernetes/pod-watch.ts';
import { createRightsBook } from '../../agent/backends/kubernetes/rights.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { Failure } from '../../shared/errors.ts';
import { openFakeCluster, type TestCluster } from '../contract/kubernetes-cluster.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';
import type { KubeApi } from '../fakes/kube-api/kube-api.ts';
import type { KubeObject } from '../fakes/kube-api/object-store.ts';
import { runOn } from '../fakes/runner-run.ts';
import { testClock } from '../fakes/test-clock.ts';

let cluster: TestCluster;
let backend: KubernetesBackend;
let shared: Sandbox;
let fake: KubeApi;
const log = vi.fn();
const soon = () => AbortSignal.timeout(20_000);

beforeAll(async () => {
  cluster = await openFakeCluster();
  fake = cluster.fake as KubeApi;
  backend = await cluster.backend({ log });
  shared = await backend.create(await cluster.template(), soon());
});
beforeEach(() => {
  fake.fault = undefined;
  fake.mutate = undefined;
  Object.assign(fake.exec.faults, { onlyV4: false, noStatus: false, halfOpen: false, lateRefusal: true });
  log.mockClear();
});
afterAll(() => cluster[Symbol.asyncDispose]());

const exec = (command: string[], options: Partial<ExecOptions> = {}) =>
  openExec({
    access: cluster.client.access,
    namespace: cluster.namespace,
    pod: shared.id,
    container: CONTAINER,
    command,
    signal: soon(),
    ...options,
  });
const make = async () => backend.create(await cluster.template(), soon());

describe('an exec', () => {
  test('speaks v4 where the server has no v5, and leaves the input open', async () => {
    fake.exec.faults.onlyV4 = true;
    const stream = await exec(['sh', '-c', 'head -c 2; echo; echo out']);
    expect(stream.protocol).toBe('v4');
    stream.end('in');
    let out = '';
    for await (const chunk of stream) out += chunk;
    expect(out).toBe('in\nout\n');
    expect(stream.status?.exitCode).toBe(0);
  });

  test('whose connection ends without a status fails, whatever came before', async () => {
    fake.exec.faults.noStatus = true;
    const stream = await exec(['echo', 'out']);
    const read = async () => {
      for await (const _ of stream);
    };
    await expect(read()).rejects.toMatchObject({ code: 'sandbox_lost', started: 'unknown' });
    expect(stream.status).toBeNull();
  });

  test('that is cut fails', async () => {
    const stream = await exec(['sleep', '30']);
    const failed = once(stream, 'error');
    stream.resume();
    fake.exec.drop();
    expect((await failed)[0]).toMatchObject({ code: 'sandbox_lost' });
  });

  test('whose other end has gone without a word is given up', async () => {
    fake.exec.faults.halfOpen = true;
    const stream = await exec(['sleep', '30'], { pingMs: 30, pongTimeoutMs: 100 });
    stream.resume();
    expect((await once(stream, 'error'))[0]).toMatchObject({ detail: 'The exec stream has gone silent.' });
  });

  test('whose reader pauses for longer than a pong may take lives on', async () => {
    const stream = await exec(['sh', '-c', 'head -c 3000000 /dev/zero'], { pingMs: 20, pongTimeoutMs: 600 });
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    let size = 0;
    for await (const chunk of stream) size += (chunk as Buffer).byteLength;
    expect(size).toBe(3_000_000);
  });

  test('that is idle is kept alive by pings', async () => {
    const stream = await exec(['sleep', '1'], { pingMs: 30, pongTimeoutMs: 600 });
    for await (const _ of stream);
    expect(stream.status?.exitCode).toBe(0);
  });

  test.for([true, false])(
    'into a container that does not run yet is tried again (late: %s)',
    async (late) => {
      fake.exec.faults.lateRefusal = late;
      const { reportMs } = fake.kubelet;
      fake.kubelet.reportMs = 300;
      const before = fake.counts.get('get pods/exec') ?? 0;
      // One that has not yet learnt how long pods take here.
      const own = await cluster.backend();
      await own.create(await cluster.template(), soon());
      await own.close();
      fake.kubelet.reportMs = reportMs;
      expect((fake.counts.get('get pods/exec') ?? 0) - before).toBeGreaterThan(1);
    },
  );
});

describe('a creation', () => {
  test.for([429, 500, 503])('that the server answers with %i is tried again', async (status) => {
    let left = 2;
    fake.fault = ({ verb, resource }) => {
      if (verb !== 'create' || resource !== 'pods' || left === 0) return undefined;
      left -= 1;
      return { status, headers: { 'retry-after': '0.01' } };
    };
    await backend.destroy(await make());
    expect(left).toBe(0);
  });

  test('that is refused time and again fails with a code', async () => {
    fake.fault = ({ verb, resource }) =>
      verb === 'create' && resource === 'pods' ? { status: 500 } : undefined;
    await expect(make()).rejects.toMatchObject({ code: 'backend_unavailable', httpStatus: 500 });
  });

  test('whose answer is lost makes one pod, not two', async () => {
    const before = fake.counts.get('create pods') ?? 0;
    fake.loseAnswers = 1;
    const sandbox = await make();
    expect((fake.counts.get('create pods') ?? 0) - before).toBe(2);
    expect((await backend.list()).filter(({ id }) => id === sandbox.id)).toHaveLength(1);
    await backend.destroy(sandbox);
  });

  test('goes on while its watch is cut, its history is gone and the server restarts', async () => {
    for (const break_ of [
      async () => fake.dropWatches(),
      async () => {
        fake.compact();
        fake.dropWatches();
      },
      async () => {
        await fake.stop();
        await fake.start();
      },
    ]) {
      const creation = make();
      await expect.poll(() => fake.store('pods').list(cluster.namespace).length).toBeGreaterThan(1);
      await break_();
      const sandbox = await creation;
      const runner = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch: 1 });
      expect((await runOn(runner, 1, 'print(1)', {})).stdout).toBe('1\n');
      await backend.destroy(sandbox);
      await expect.poll(() => fake.store('pods').list(cluster.namespace)).toHaveLength(1);
    }
  });

  test('by an agent without the right names verb, resource and namespace', async () => {
    const message = `pods is forbidden: User "agent" cannot create resource "pods" in API group "" in the namespace "${cluster.namespace}"`;
    fake.fault = ({ verb, resource }) =>
      verb === 'create' && resource === 'pods' ? { status: 403, message } : undefined;
    await expect(make()).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: `The agent may not create pods in namespace ${cluster.namespace}: its Role lacks that rule.`,
    });
  });

  test('by an agent without the right to exec says so at once, and leaves no pod', async () => {
    fake.fault = ({ subresource }) =>
      subresource === 'exec'
        ? {
            status: 403,
            message: `pods "p" is forbidden: User "agent" cannot get resource "pods/exec" in API group "" in the namespace "n"`,
          }
        : undefined;
    await expect(make()).rejects.toMatchObject({ detail: expect.stringContaining('get pods/exec') });
    await expect.poll(() => fake.store('pods').list(cluster.namespace)).toHaveLength(1);
  });
});

test.for([403, 422])('an exec that a policy refuses with %i is said so at once', async (status) => {
  const message = `pods "p" is forbidden: ValidatingAdmissionPolicy 'a' with binding 'b' denied request: no exec`;
  fake.fault = ({ subresource }) => (subresource === 'exec' ? { status, message } : undefined);
  await expect(make()).rejects.toMatchObject({
    detail: `The agent may not get pods/exec in namespace ${cluster.namespace}: an admission policy refuses it.`,
  });
});

describe('a pod that ends', () => {
  test.for([
    ['for its memory', { containerReason: 'OOMKilled' }, 'memory'],
    ['by eviction', { podReason: 'Evicted' }, 'evicted'],
    ['at its deadline', { podReason: 'DeadlineExceeded' }, 'aged'],
  ] as const)('%s is known as such', async ([, how, why]) => {
    const sandbox = await make();
    const runner = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch: 1 });
    await runner.ready;
    fake.kubelet.end(sandbox.id, how);
    await runner.closed;
    expect((await backend.endOf(sandbox, soon()))?.why).toBe(why);
    await expect(backend.connect(sandbox, soon())).rejects.toMatchObject({ code: 'sandbox_lost' });
    await backend.destroy(sandbox);
  });

  test('and stays in Terminating holds nobody up', async () => {
    const sandbox = await make();
    fake.kubelet.stuck = true;
    await backend.destroy(sandbox);
    expect((await backend.list()).map(({ id }) => id)).not.toContain(sandbox.id);
    fake.kubelet.stuck = false;
  });
});

test.for([
  ['labels', { labels: { 'app.kubernetes.io/managed-by': 'somebody' } }, {}],
  ['user', {}, { securityContext: { runAsUser: 4_321 } }],
  ['restart policy', {}, { restartPolicy: 'Always' }],
  ['process namespace', {}, { shareProcessNamespace: true }],
] as const)(
  'a pod of which admission changes the %s is refused in so many words, and removed',
  async ([change, metadata, spec]) => {
    const names = () =>
      fake
        .store('pods')
        .list(cluster.namespace)
        .map(({ metadata }) => metadata.name);
    fake.mutate = (pod) => ({
      ...pod,
      metadata: { ...pod.metadata, ...metadata },
      spec: { ...pod.spec, ...spec },
    });
    const before = new Set(names());
    await expect(make()).rejects.toMatchObject({
      code: 'policy_denied',
      detail: expect.stringContaining(`changes the ${change} of`),
    });
    await expect.poll(() => names().filter((name) => !before.has(name))).toEqual([]);
  },
);

test('a container whose own user is changed is refused, and other containers may have theirs', async () => {
  const withUsers = (sandbox: object, sidecar: object) => (pod: KubeObject) => ({
    ...pod,
    spec: {
      ...pod.spec,
      containers: [
        {
          ...pod.spec.containers[0],
          securityContext: { ...pod.spec.containers[0].securityContext, ...sandbox },
        },
        { ...pod.spec.containers[0], name: 'sidecar', volumeMounts: [], ...sidecar },
      ],
    },
  });
  fake.mutate = withUsers({ runAsUser: 4_321 }, {});
  await expect(make()).rejects.toMatchObject({ code: 'policy_denied' });
  fake.mutate = withUsers({}, { securityContext: { runAsUser: 4_321 } });
  await backend.destroy(await make());
});

test('a deletion that fails is tried until it succeeds', async () => {
  const sandbox = await make();
  let left = 2;
  fake.fault = ({ verb, resource }) => {
    if (verb !== 'delete' || resource !== 'pods' || left === 0) return undefined;
    left -= 1;
    return { status: 500 };
  };
  await backend.destroy(sandbox);
  expect(left).toBe(0);
  expect((await backend.list()).map(({ id }) => id)).not.toContain(sandbox.id);
});

test('a right to delete that is given back is found by the next sandbox that is made, with what it left', async () => {
  const client = createKubeClient(cluster.client.access, createRightsBook({ clock: testClock, log }));
  const own = await cluster.backend({ client, installation: 'refused', log });
  const template = await cluster.template();
  const left = [await own.create(template, soon()), await own.create(template, soon())];
  const what = `cannot delete resource "pods" in API group "" in the namespace "${cluster.namespace}"`;
  fake.fault = ({ verb, resource }) =>
    verb === 'delete' && resource === 'pods'
      ? { status: 403, message: `pods "p" is forbidden: User "agent" ${what}` }
      : undefined;
  for (const sandbox of left) await own.destroy(sandbox);
  await expect(own.create(template, soon())).rejects.toMatchObject({
    detail: `The agent may not delete pods in namespace ${cluster.namespace}: its Role lacks that rule.`,
  });
  fake.fault = undefined;
  const { id } = await own.create(template, soon());
  await expect.poll(async () => (await own.list()).map((sandbox) => sandbox.id)).toEqual([id]);
});

test('an instance whose Lease was taken away makes another, and new pods belong to that', async () => {
  const own = await cluster.backend({ installation: 'taken', renewMs: 50, log });
  const [lease] = fake
    .store('leases')
    .list(cluster.namespace, ({ metadata }) => metadata.labels?.['podgate.dev/installation'] === 'taken');
  fake.store('leases').remove(cluster.namespace, lease?.metadata.name ?? '');
  await expect.poll(() => log).toHaveBeenCalledWith('instance_taken_for_dead', expect.anything());
  const sandbox = await own.create(await cluster.template(), soon());
  const pod = fake.store('pods').get(cluster.namespace, sandbox.id);
  const [now] = fake
    .store('leases')
    .list(cluster.namespace, ({ metadata }) => metadata.name === lease?.metadata.name);
  expect(pod?.metadata.ownerReferences?.[0]?.uid).toBe(now?.metadata.uid);
  expect(now?.metadata.uid).not.toBe(lease?.metadata.uid);
});

test('a backend whose server was away says when it is there again', async () => {
  const own = await cluster.backend({ installation: 'away', log });
  const told = vi.fn();
  own.onReachable?.(told);
  await fake.stop();
  await expect.poll(() => log).toHaveBeenCalledWith('pod_watch_interrupted', expect.anything());
  expect(told).not.toHaveBeenCalled();
  await fake.start();
  await expect.poll(() => told).toHaveBeenCalledOnce();
  await own.close();
});

test('a backend whose Lease may be renewed again says that sandboxes may be made again', async () => {
  const client = createKubeClient(cluster.client.access, createRightsBook({ clock: testClock, log }));
  const own = await cluster.backend({ client, installation: 'regained', renewMs: 50, log });
  const told = vi.fn();
  own.onReachable?.(told);
  const what = `cannot update resource "leases" in API group "coordination.k8s.io" in the namespace "${cluster.namespace}"`;
  fake.fault = ({ verb, resource }) =>
    verb === 'update' && resource === 'leases'
      ? { status: 403, message: `leases "l" is forbidden: User "agent" ${what}` }
      : undefined;
  await expect.poll(() => log).toHaveBeenCalledWith('right_missing', expect.anything());
  expect(told).not.toHaveBeenCalled();
  fake.fault = undefined;
  await expect.poll(() => told, { timeout: 5_000 }).toHaveBeenCalledOnce();
  await own.close();
});

describe('a watch', () => {
  const open = (idleMs?: number) =>
    createPodWatch({
      client: cluster.client,
      namespace: cluster.namespace,
      labelSelector: '',
      clock: testClock,
      random: () => 0,
      log: () => {},
      ...(idleMs === undefined ? {} : { idleMs }),
    });
  const add = (name: string) =>
    fake.store('pods').add({
      metadata: { name, namespace: cluster.namespace },
      spec: { nodeSelector: { none: 'here' }, containers: [{ name: CONTAINER }] },
    });
  const drop = (name: string) => fake.store('pods').remove(cluster.namespace, name);

  test('keeps of a pod what is read of it, and not its command', async () => {
    const watch = open();
    const pod = add('large');
    fake.store('pods').put({ ...pod, spec: { ...pod.spec, nodeName: 'node', command: 'x'.repeat(100_000) } });
    const seen = await watch.until('large', (pod) => (pod?.spec?.nodeName ? pod : undefined), soon());
    expect(seen.metadata).toMatchObject({ name: 'large', uid: pod.metadata.uid });
    expect(JSON.stringify(seen).length).toBeLessThan(1_000);
    watch.close();
    drop('large');
  });

  test('that is cut goes on from where it was, without reading all again', async () => {
    const watch = open();
    await watch.synced;
    fake.dropWatches();
    add('after-a-drop');
    await watch.until('after-a-drop', (pod) => pod, soon());
    expect(watch.lists).toBe(1);
    drop('after-a-drop');
    await watch.until('after-a-drop', (_, gone) => gone || undefined, soon());
    watch.close();
  });

  test('whose history is gone reads all again, and misses no deletion', async () => {
    add('goes-unseen');
    const watch = open();
    await watch.synced;
    await fake.stop();
    drop('goes-unseen');
    add('comes-unseen');
    fake.compact();
    await fake.start();
    await watch.until('comes-unseen', (pod) => pod, soon());
    expect(watch.get('goes-unseen')).toBeUndefined();
    expect(watch.lists).toBe(2);
    watch.close();
    drop('comes-unseen');
  });

  test('that has gone silent is opened anew', async () => {
    let watches = 0;
    fake.fault = ({ verb }) => {
      if (verb !== 'watch') return undefined;
      watches += 1;
      return watches === 1 ? { hang: true } : undefined;
    };
    const watch = open(300);
    await watch.synced;
    add('after-silence');
    await watch.until('after-silence', (pod) => pod, soon());
    drop('after-silence');
    watch.close();
  });

  test('that a server ends as soon as it is taken is not asked for in a circle', async () => {
    const clock = createFakeClock();
    let taken = 0;
    const client = {
      ...cluster.client,
      call: async () => ({ metadata: { resourceVersion: '1' }, items: [] }),
      watch(_path: string, _query: object, { onOpen }: WatchOptions) {
        taken += 1;
        onOpen?.();
        return [];
      },
    } as unknown as KubeClient;
    const deps = { client, namespace: 'x', labelSelector: '', random: () => 0, log: () => {} };
    const watch = createPodWatch({ ...deps, clock });
    await clock.advance(SHORT_WATCH_MS - 1);
    expect(taken).toBe(1);
    await clock.advance(1 + 9 * SHORT_WATCH_MS);
    expect(taken).toBe(11);
    expect(watch.lists).toBe(1);
    watch.close();
  });
});

test('a watch that is doubted while the server is away asks no more often for it', async () => {
  const clock = createFakeClock();
  let asked = 0;
  let isAway = false;
  const client = {
    ...cluster.client,
    async call() {
      asked += 1;
      if (isAway) throw new Failure('backend_unavailable', 'away');
      return { metadata: { resourceVersion: '1' }, items: [] };
    },
    watch: () => [],
  } as unknown as KubeClient;
  const deps = { client, namespace: 'x', labelSelector: '', random: () => 0.5, log: () => {} };
  const watch = createPodWatch({ ...deps, clock });
  await clock.settle();
  isAway = true;
  watch.refresh();
  // The first at once, then after half of 250, 500, 1,000 and 2,000 ms.
  await clock.advance(SHORT_WATCH_MS + 125 + 250 + 500);
  expect(asked).toBe(1 + 4);
  watch.close();
});

describe('a sandbox on its way', () => {
  test('is seen although its watch hangs on a dead connection', async () => {
    const own = await cluster.backend({ installation: 'deaf', doubtMs: 300 });
    let deaf = 0;
    fake.fault = ({ verb }) => {
      if (verb !== 'watch' || deaf > 0) return undefined;
      deaf += 1;
      return { hang: true };
    };
    fake.dropWatches();
    await expect.poll(() => deaf).toBe(1);
    const sandbox = await own.create(await cluster.template(), soon());
    expect(sandbox.id).toMatch(/^podgate-/);
    await own.close();
  });

  test('is kept while the API server has too much to do for an exec', async () => {
    const own = await cluster.backend({ installation: 'busy' });
    let refused = 0;
    fake.fault = ({ subresource }) => {
      if (subresource !== 'exec' || refused === 9) return undefined;
      refused += 1;
      return { status: 429, headers: { 'retry-after': '0.01' } };
    };
    const before = fake.counts.get('create pods');
    await own.create(await cluster.template(), soon());
    expect(refused).toBe(9);
    expect(fake.counts.get('create pods')).toBe((before ?? 0) + 1);
    await own.close();
  });
});

test('an instance that ends deletes its pods although the server fails at first, and its Lease cannot be deleted', async () => {
  const own = await cluster.backend({ installation: 'ends', log });
  await own.create(await cluster.template(), soon());
  const last = await own.create(await cluster.template(), soon());
  const failed = new Set<string>();
  fake.fault = ({ verb, resource, name }) => {
    if (verb !== 'delete') return undefined;
    if (resource === 'pods' && failed.has(name)) return undefined;
    failed.add(name);
    return { status: 500 };
  };
  await own.close();
  const installation = `podgate.dev/installation`;
  const left = fake
    .store('pods')
    .list(cluster.namespace, ({ metadata }) => metadata.labels?.[installation] === 'ends')
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  expect(failed.has(last.id)).toBe(true);
  expect(left).toEqual([]);
  expect(log).not.toHaveBeenCalledWith('pods_not_deleted', expect.anything());
});

test('an instance whose calls all hang goes on renewing its Lease and hearing of its pods', async () => {
  const times = { leaseSeconds: 2, renewMs: 300 };
  const own = await cluster.backend({ installation: 'stuck', log, ...times });
  const sandbox = await own.create(await cluster.template(), soon());
  let hung = 0;
  let renewed = 0;
  fake.fault = ({ verb, resource }) => {
    if (resource === 'leases' && verb === 'update') renewed += 1;
    if (resource !== 'pods' || verb === 'watch') return undefined;
    hung += 1;
    return { hang: true };
  };
  for (let n = 0; n < 100; n += 1) void own.destroy({ ...sandbox, id: `podgate-none-${n}` });
  await expect.poll(() => hung).toBeGreaterThan(30);
  fake.dropWatches();
  const before = renewed;
  await expect.poll(() => renewed).toBeGreaterThan(before + 12);
  fake.kubelet.end(sandbox.id, { podReason: 'Evicted' });
  expect((await own.endOf(sandbox, soon()))?.why).toBe('evicted');
  fake.fault = undefined;
  await own.close();
});

test('a renewal that hangs on a dead connection costs no instance its life', async () => {
  const seconds = 4;
  const times = { leaseSeconds: seconds, renewMs: 600, reapMs: 100, slackMs: 300 };
  const first = await cluster.backend({ installation: 'hangs', log, ...times });
  const second = await cluster.backend({ installation: 'hangs', ...times });
  const sandbox = await first.create(await cluster.template(), soon());
  const lease = fake.store('leases').list(cluster.namespace, ({ metadata }) => {
    return metadata.annotations?.['podgate.dev/instance'] === sandbox.instance;
  })[0];
  let hung = 0;
  let renewed = 0;
  fake.fault = ({ verb, resource, name }) => {
    if (verb !== 'update' || resource !== 'leases' || name !== lease?.metadata.name) return undefined;
    if (hung === 0) {
      hung += 1;
      return { hang: true };
    }
    renewed += 1;
    return undefined;
  };
  await expect.poll(() => renewed).toBeGreaterThan(3);
  expect(log).not.toHaveBeenCalledWith('instance_taken_for_dead', expect.anything());
  expect((await first.list()).map(({ id }) => id)).toContain(sandbox.id);
  await first.close();
  await second.close();
});
