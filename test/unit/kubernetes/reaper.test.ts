import { expect, onTestFinished, test } from 'vitest';
import { type HeldLease, LEASE_SECONDS } from '../../../agent/backends/kubernetes/held-lease.ts';
import type { Call, KubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { KubeRefusal } from '../../../agent/backends/kubernetes/kube-failure.ts';
import { LEASE_SLACK_MS } from '../../../agent/backends/kubernetes/lease-book.ts';
import {
  buryLease,
  createReaper,
  ORPHAN_ROUNDS,
  REAP_MS,
} from '../../../agent/backends/kubernetes/reaper.ts';
import { Failure } from '../../../shared/errors.ts';
import { createFakeClock } from '../../fakes/fake-clock.ts';
import {
  createObjectStore,
  createRevision,
  type KubeObject,
  selectorOf,
} from '../../fakes/kube-api/object-store.ts';

const NAMESPACE = 'sandboxes';
/** Longer than any of these tests: nobody dies of age whose Lease says nothing else. */
const LASTS_SECONDS = 86_400;

function labelsOf(instance: string, installation: string) {
  return {
    'app.kubernetes.io/managed-by': 'podgate',
    'podgate.dev/installation': installation,
    'podgate.dev/instance': instance,
  };
}

/** The reaper of `own` beside whatever else holds Leases and pods; every answer is there at once. */
function start() {
  const clock = createFakeClock();
  const revision = createRevision();
  const stores = { pods: createObjectStore(revision), leases: createObjectStore(revision) };
  const deletions: { name: string; preconditions: unknown }[] = [];
  const undeletable = new Set<string>();
  let onListed: ((kind: string) => void) | undefined;
  let onDeleted: (() => void) | undefined;

  async function call<T>({ method, path, query, body, metadataOnly }: Call): Promise<T> {
    const [, kind = '', name = ''] = /\/(pods|leases)(?:\/(.+))?$/.exec(path) ?? [];
    const store = stores[kind as keyof typeof stores];
    if (method === 'DELETE') {
      deletions.push({ name, preconditions: (body as { preconditions?: unknown }).preconditions });
      onDeleted?.();
      if (undeletable.has(name)) throw new Failure('backend_unavailable', 'No.');
      return store.remove(NAMESPACE, name) as T;
    }
    const items = store.list(NAMESPACE, selectorOf(query?.labelSelector ?? null));
    onListed?.(kind);
    // A pod has 130 KB, and an agent reads those of all others too.
    expect(metadataOnly === true).toBe(kind === 'pods');
    return { items } as T;
  }

  function add(
    kind: keyof typeof stores,
    name: string,
    instance: string,
    { installation = 'main', leaseDurationSeconds = LASTS_SECONDS } = {},
  ): KubeObject {
    const metadata = { name, namespace: NAMESPACE, labels: labelsOf(instance, installation) };
    return stores[kind].add({ metadata, spec: { leaseDurationSeconds } });
  }

  function reap(name: string) {
    const reaper = createReaper({
      client: { call } as KubeClient,
      namespace: NAMESPACE,
      installation: 'main',
      lease: { name, steadySinceMs: 0 } as HeldLease,
      clock,
      log: () => {},
    });
    onTestFinished(() => reaper.close());
    return reaper;
  }

  const pods = () => stores.pods.list(NAMESPACE).map(({ metadata }) => metadata.name);
  return {
    clock,
    add,
    reap,
    pods,
    deletions,
    undeletable,
    terminate: (pod: KubeObject) =>
      stores.pods.put({
        ...pod,
        metadata: { ...pod.metadata, deletionTimestamp: '2026-11-22T00:00:00Z' },
      }),
    whenDeleted(listener: () => void) {
      onDeleted = listener;
    },
    remove: (kind: keyof typeof stores, name: string) => stores[kind].remove(NAMESPACE, name),
    whenListed(listener: (kind: string) => void) {
      onListed = listener;
    },
  };
}

test('pods whose instance has no Lease are deleted in the first round, each by its uid, and no others', async () => {
  const { clock, add, reap, pods, deletions } = start();
  add('leases', 'own-lease', 'own');
  add('leases', 'sister-lease', 'sister');
  add('pods', 'own-pod', 'own');
  add('pods', 'sister-pod', 'sister');
  const { uid } = add('pods', 'orphan', 'gone').metadata;
  // Another installation's instance of the same name, and one of it without a Lease as well.
  add('pods', 'other-orphan', 'gone', { installation: 'other' });
  add('pods', 'other-pod', 'own', { installation: 'other' });
  const reaper = reap('own-lease');
  await clock.settle();
  expect(reaper.leads()).toBe(true);
  expect(pods()).toEqual(['own-pod', 'sister-pod', 'other-orphan', 'other-pod']);
  await clock.advance(2 * ORPHAN_ROUNDS * REAP_MS);
  expect(pods()).toHaveLength(4);
  expect(deletions).toEqual([{ name: 'orphan', preconditions: { uid } }]);
});

test('they are looked for again every so many rounds', async () => {
  const { clock, add, reap, pods } = start();
  add('leases', 'own-lease', 'own');
  reap('own-lease');
  await clock.settle();
  add('pods', 'orphan', 'gone');
  await clock.advance((ORPHAN_ROUNDS - 1) * REAP_MS);
  expect(pods()).toEqual(['orphan']);
  await clock.advance(REAP_MS);
  expect(pods()).toEqual([]);
});

test('the pods of an instance that has just begun stay: its Lease came after the Leases were read, and before its pods', async () => {
  const { clock, add, reap, pods, whenListed } = start();
  add('leases', 'own-lease', 'own');
  let began = false;
  whenListed((kind) => {
    if (kind !== 'leases' || began) return;
    began = true;
    add('leases', 'new-lease', 'new');
    add('pods', 'new-pod', 'new');
  });
  reap('own-lease');
  await clock.advance(ORPHAN_ROUNDS * REAP_MS);
  expect(began).toBe(true);
  expect(pods()).toEqual(['new-pod']);
});

test('one that does not lead deletes nothing', async () => {
  const { clock, add, reap, pods } = start();
  add('leases', 'a-lease', 'elder');
  add('leases', 'own-lease', 'own');
  add('pods', 'orphan', 'gone');
  const reaper = reap('own-lease');
  await clock.advance(2 * ORPHAN_ROUNDS * REAP_MS);
  expect(reaper.leads()).toBe(false);
  expect(pods()).toEqual(['orphan']);
});

test('a list of Leases that lacks its own deletes nobody, whatever else it lacks', async () => {
  const { clock, add, reap, pods, whenListed, remove } = start();
  const { name } = add('leases', 'own-lease', 'own').metadata;
  add('leases', 'sister-lease', 'sister');
  add('pods', 'own-pod', 'own');
  add('pods', 'sister-pod', 'sister');
  // Between the pods and the Leases that are read after them.
  whenListed((kind) => {
    if (kind !== 'pods') return;
    remove('leases', name);
    remove('leases', 'sister-lease');
  });
  reap(name);
  await clock.settle();
  expect(pods()).toEqual(['own-pod', 'sister-pod']);
});

test.for([
  ['go with it', false],
  ['stay where it was renewed since it was read', true],
] as const)('the pods of an instance whose Lease has run out %s', async ([, isRenewed]) => {
  const { clock, add, reap, pods, deletions, whenDeleted } = start();
  add('leases', 'own-lease', 'own');
  add('leases', 'sister-lease', 'sister', { leaseDurationSeconds: LEASE_SECONDS });
  add('pods', 'sister-pod', 'sister');
  whenDeleted(() => {
    if (isRenewed)
      throw new KubeRefusal('conflict', 'No.', { httpStatus: 409, reason: 'Conflict', words: 'No.' });
  });
  reap('own-lease');
  await clock.advance(LEASE_SECONDS * 1_000 + LEASE_SLACK_MS);
  expect(deletions).toEqual([]);
  await clock.advance(REAP_MS);
  const all = ['sister-lease', 'sister-pod'];
  expect(deletions.map(({ name }) => name)).toEqual(isRenewed ? all.slice(0, 1) : all);
  expect(pods()).toEqual(isRenewed ? all.slice(1) : []);
});

test('a pod that cannot be deleted keeps none of those after it', async () => {
  const { clock, add, reap, pods, undeletable } = start();
  add('leases', 'own-lease', 'own');
  for (const name of ['stuck', 'second', 'third']) add('pods', name, 'gone');
  undeletable.add('stuck');
  reap('own-lease');
  await clock.settle();
  expect(pods()).toEqual(['stuck']);
});

test('a pod that is being deleted already is not deleted again', async () => {
  const { clock, add, reap, pods, deletions, terminate } = start();
  add('leases', 'own-lease', 'own');
  terminate(add('pods', 'on-lost-node', 'gone'));
  reap('own-lease');
  await clock.settle();
  expect(pods()).toEqual(['on-lost-node']);
  expect(deletions).toEqual([]);
});

test('a reaper that is closed among its deletions deletes no more', async () => {
  const { clock, add, reap, deletions, whenDeleted } = start();
  add('leases', 'own-lease', 'own');
  for (const name of ['first', 'second', 'third']) add('pods', name, 'gone');
  const reaper = reap('own-lease');
  whenDeleted(() => reaper.close());
  await clock.settle();
  expect(deletions.map(({ name }) => name)).toEqual(['first']);
});

test.for([
  [409, false],
  [404, true],
] as const)(
  'a Lease is deleted exactly as it was seen: a %i says whether it is gone',
  async ([httpStatus, isGone]) => {
    const calls: Call[] = [];
    const client = {
      async call(call: Call) {
        calls.push(call);
        throw new KubeRefusal('conflict', 'No.', { httpStatus, reason: 'No', words: 'No.' });
      },
    } as unknown as KubeClient;
    const metadata = { name: 'its', uid: 'uid-1', resourceVersion: '7' };
    expect(await buryLease(client, NAMESPACE, { metadata })).toBe(isGone);
    expect(calls).toMatchObject([
      { method: 'DELETE', vital: true, body: { preconditions: { uid: 'uid-1', resourceVersion: '7' } } },
    ]);
  },
);
