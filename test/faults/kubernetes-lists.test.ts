import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { createKubeClient } from '../../agent/backends/kubernetes/kube-client.ts';
import { createKubernetesCluster } from '../../agent/backends/kubernetes/kubernetes-cluster.ts';
import { listObjects, MAX_LIST_PAGES } from '../../agent/backends/kubernetes/list-objects.ts';
import { CONTAINER } from '../../agent/backends/kubernetes/pod-spec.ts';
import { createPodWatch } from '../../agent/backends/kubernetes/pod-watch.ts';
import { listPods } from '../../agent/backends/kubernetes/reaper.ts';
import { createRightsBook } from '../../agent/backends/kubernetes/rights.ts';
import { openFakeCluster, type TestCluster } from '../contract/kubernetes-cluster.ts';
import type { KubeApi } from '../fakes/kube-api/kube-api.ts';
import { testClock } from '../fakes/test-clock.ts';

let cluster: TestCluster;
let fake: KubeApi;
const log = vi.fn();
const soon = () => AbortSignal.timeout(20_000);

beforeAll(async () => {
  cluster = await openFakeCluster();
  fake = cluster.fake as KubeApi;
});
beforeEach(() => {
  fake.fault = undefined;
  fake.pageSize = undefined;
  log.mockClear();
});
afterAll(() => cluster[Symbol.asyncDispose]());

describe('a list of pods of more than one page', () => {
  const add = (name: string) =>
    fake.store('pods').add({
      metadata: { name, namespace: cluster.namespace },
      spec: { nodeSelector: { none: 'here' }, containers: [{ name: CONTAINER }] },
    });
  const drop = (name: string) => fake.store('pods').remove(cluster.namespace, name);
  const open = () =>
    createPodWatch({ ...cluster, labelSelector: '', clock: testClock, random: () => 0, log });
  /** Fails the second page so often. */
  function breakOff(times: number): void {
    let left = times;
    fake.fault = ({ verb, resource, query }) => {
      if (verb !== 'list' || resource !== 'pods' || !query.has('continue') || left === 0) return undefined;
      left -= 1;
      return { status: 500 };
    };
  }

  test('that breaks off is read again from its begin', async () => {
    for (const name of ['one', 'two', 'three']) add(name);
    fake.pageSize = 2;
    breakOff(2);
    const watch = open();
    await watch.synced;
    expect([...watch.all()].map(({ metadata }) => metadata?.name)).toEqual(['one', 'two', 'three']);
    expect(watch.lists).toBe(1);
    watch.close();
    for (const name of ['one', 'two', 'three']) drop(name);
  });

  test('is read without what its pods are, where only their names and owners are wanted', async () => {
    for (const name of ['one', 'two', 'three']) add(name);
    fake.pageSize = 2;
    const { client, namespace } = cluster;
    const found = await listPods(client, { namespace, selector: '', metadataOnly: true });
    expect(found.map(({ metadata }) => metadata?.name)).toEqual(['one', 'two', 'three']);
    expect(found.every((pod) => pod.metadata?.uid && !pod.spec)).toBe(true);
    expect((await listPods(client, { namespace, selector: '' })).every(({ spec }) => spec)).toBe(true);
    for (const name of ['one', 'two', 'three']) drop(name);
  });

  test('that fails again and again is said once in the log, and again after it was heard', async () => {
    const watch = open();
    await watch.synced;
    const failFor = async (tries: number) => {
      let left = tries;
      const over = Promise.withResolvers<void>();
      fake.fault = ({ verb, resource }) => {
        if (resource !== 'pods' || (verb !== 'list' && verb !== 'watch') || left === 0) return undefined;
        left -= 1;
        if (left === 0) over.resolve();
        return { status: 500 };
      };
      fake.dropWatches();
      await over.promise;
    };
    const said = () => log.mock.calls.filter(([, { cause }]) => String(cause).includes('500')).length;
    await failFor(5);
    add('heard');
    await watch.until('heard', (pod) => pod, soon());
    expect(said()).toBe(1);
    await failFor(5);
    add('again');
    await watch.until('again', (pod) => pod, soon());
    expect(said()).toBe(2);
    watch.close();
    for (const name of ['heard', 'again']) drop(name);
  });

  test('that breaks off after the history was gone misses no deletion', async () => {
    for (const name of ['one', 'two', 'three']) add(name);
    const watch = open();
    await watch.synced;
    await fake.stop();
    drop('one');
    for (const name of ['four', 'five']) add(name);
    fake.compact();
    fake.pageSize = 2;
    breakOff(1);
    await fake.start();
    await watch.until('one', (_, gone) => gone || undefined, soon());
    await watch.until('five', (pod) => pod, soon());
    expect(watch.lists).toBe(2);
    watch.close();
    for (const name of ['two', 'three', 'four', 'five']) drop(name);
  });
});

describe('a list that is none', () => {
  const refused = { code: 'backend_unavailable' };
  const read = (answer: object | null) =>
    listObjects({ call: async () => answer as never }, { path: '/api/v1/pods', labelSelector: '' });

  test('is not taken for one without pods, where a refusal comes as a success', async () => {
    const backend = await cluster.backend({ log });
    const sandbox = await backend.create(await cluster.template(), soon());
    fake.fault = ({ verb }) => (verb === 'list' || verb === 'watch' ? { status: 200 } : undefined);
    fake.dropWatches();
    fake.compact();
    await expect(backend.list()).rejects.toMatchObject(refused);
    await expect.poll(() => log).toHaveBeenCalledWith('pod_watch_interrupted', expect.anything());
    fake.fault = undefined;
    expect((await backend.list()).map(({ id }) => id)).toContain(sandbox.id);
    await backend.close();
  });

  test.for([{}, [], { items: 'none' }])('is refused: %j', async (answer) => {
    await expect(read(answer)).rejects.toMatchObject(refused);
  });

  test('has as many pages as a list may have, and not one more', async () => {
    let pages = 0;
    const call = async () => {
      pages += 1;
      return { items: [], metadata: { continue: pages === MAX_LIST_PAGES + 1 ? '' : 'more' } } as never;
    };
    await expect(listObjects({ call }, { path: '', labelSelector: '' })).rejects.toMatchObject(refused);
    expect(pages).toBe(MAX_LIST_PAGES);
    pages = 1;
    expect(await listObjects({ call }, { path: '', labelSelector: '' })).toMatchObject({ items: [] });
  });

  test('holds objects that are none, or have no name, is read without them', async () => {
    const items = [null, 7, {}, { metadata: { name: '' } }, { metadata: { name: 'one' } }];
    expect((await read({ items })).items).toEqual([{ metadata: { name: 'one' } }]);
  });

  test('is empty where its items are null', async () => {
    expect((await read({ items: null })).items).toEqual([]);
  });
});

test('a server that passes over selectors shows nobody the pods of others', async () => {
  const labelSelector = 'app=podgate,instance=own';
  const add = (name: string, instance: string) =>
    fake.store('pods').add({
      metadata: { name, namespace: cluster.namespace, labels: { app: 'podgate', instance } },
      spec: { nodeSelector: { none: 'here' }, containers: [{ name: CONTAINER }] },
    });
  fake.fault = ({ query }) => void query.delete('labelSelector');
  add('sister', 'sister');
  add('own', 'own');
  const watch = createPodWatch({ ...cluster, labelSelector, clock: testClock, random: () => 0, log });
  await watch.synced;
  add('sister-later', 'sister');
  add('own-later', 'own');
  await watch.until('own-later', (pod) => pod, soon());
  expect([...watch.all()].map(({ metadata }) => metadata?.name)).toEqual(['own', 'own-later']);
  watch.close();
  const path = `/api/v1/namespaces/${cluster.namespace}/pods`;
  expect((await listObjects(cluster.client, { path, labelSelector })).items).toHaveLength(2);
});

describe('a cluster whose pods cannot be listed', () => {
  const leases = () => fake.store('leases').list(cluster.namespace);

  test('is given up in time, with the reason and without its Lease', async () => {
    fake.fault = ({ verb, resource }) =>
      verb === 'list' && resource === 'pods' ? { status: 500 } : undefined;
    await expect(cluster.backend({ syncTimeoutMs: 300, log })).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: 'The API server answered 500.',
    });
    expect(leases()).toEqual([]);
  });

  test('is let go by an agent that ends, also where the list hangs', async () => {
    fake.fault = ({ verb, resource }) =>
      verb === 'list' && resource === 'pods' ? { hang: true } : undefined;
    const { namespace } = cluster;
    const { backend } = createKubernetesCluster({
      what: 'the cluster',
      installation: 'test',
      instance: 'ends',
      clock: testClock,
      random: () => 0,
      log,
      rights: createRightsBook({ clock: testClock, log }),
      connect: async () => ({ client: createKubeClient(cluster.client.access), namespace }),
    });
    await expect.poll(leases).toHaveLength(1);
    await backend.close();
    expect(leases()).toEqual([]);
    expect(log).not.toHaveBeenCalledWith('cluster_unavailable', expect.anything());
  });
});
