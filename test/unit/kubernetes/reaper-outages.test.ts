import { expect, onTestFinished, test } from 'vitest';
import {
  type HeldLease,
  holdLease,
  LEASE_RENEW_MS,
  LEASE_SECONDS,
} from '../../../agent/backends/kubernetes/held-lease.ts';
import type { Call, KubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { KubeRefusal } from '../../../agent/backends/kubernetes/kube-failure.ts';
import { LEASE_SLACK_MS } from '../../../agent/backends/kubernetes/lease-book.ts';
import { createReaper, REAP_MS } from '../../../agent/backends/kubernetes/reaper.ts';
import { createFakeClock, type FakeClock } from '../../fakes/fake-clock.ts';
import { createObjectStore, createRevision, type ObjectStore } from '../../fakes/kube-api/object-store.ts';

const NAMESPACE = 'sandboxes';
const EXPIRY_MS = LEASE_SECONDS * 1000 + LEASE_SLACK_MS;

type Cluster = { leases: ObjectStore; pods: ObjectStore; clock: FakeClock };

function openCluster(): Cluster {
  const revision = createRevision();
  return {
    leases: createObjectStore(revision),
    pods: createObjectStore(revision),
    clock: createFakeClock(),
  };
}

type Instance = { lease: HeldLease; writes: boolean; isLost: () => boolean };

/** An instance with a Lease, a reaper and one pod. Its calls are answered at once; without `writes` only reads are. */
async function startInstance(cluster: Cluster, name: string): Promise<Instance> {
  const { leases, pods, clock } = cluster;
  const state = { writes: true };

  async function call({ method, path, body }: Call): Promise<unknown> {
    const [, kind = '', object = ''] = /\/(leases|pods)(?:\/(.+))?$/.exec(path) ?? [];
    const store = kind === 'leases' ? leases : pods;
    if (method === 'GET') return { items: store.list(NAMESPACE) };
    if (!state.writes) throw refusal(500);
    if (method === 'POST') return store.add(body as never);
    const found = store.get(NAMESPACE, object);
    if (!found) throw refusal(404);
    if (method === 'PUT') return store.put(body as never);
    const wanted = (body as { preconditions?: { resourceVersion?: string } } | undefined)?.preconditions;
    const { resourceVersion = found.metadata.resourceVersion } = wanted ?? {};
    if (resourceVersion !== found.metadata.resourceVersion) throw refusal(409);
    return store.remove(NAMESPACE, object);
  }

  const client = { call } as unknown as KubeClient;
  const deps = { client, namespace: NAMESPACE, installation: 'one', instance: name, clock, log: () => {} };
  const lease = await holdLease({ ...deps, onReplaced: () => {} });
  const labels = leases.get(NAMESPACE, lease.name)?.metadata.labels ?? {};
  const { uid } = pods.add({ metadata: { name: `${name}-pod`, namespace: NAMESPACE, labels } }).metadata;
  const reaper = createReaper({ ...deps, lease });
  onTestFinished(() => reaper.close());
  return Object.assign(state, {
    lease,
    isLost: () => pods.get(NAMESPACE, `${name}-pod`)?.metadata.uid !== uid,
  });
}

function refusal(httpStatus: number): KubeRefusal {
  return new KubeRefusal('backend_unavailable', 'No.', { httpStatus, reason: 'Fault', words: '' });
}

test('what keeps an instance from renewing and reaping is said once, and again when it comes back', async () => {
  const clock = createFakeClock();
  let status: number | undefined;
  const said: string[] = [];
  async function call({ method }: Call): Promise<unknown> {
    if (status !== undefined) throw refusal(status);
    return method === 'GET' ? { items: [] } : {};
  }
  const client = { call } as unknown as KubeClient;
  const log = (event: string) => void said.push(event);
  const deps = { client, namespace: NAMESPACE, installation: 'one', instance: 'a', clock, log };
  const lease = await holdLease({ ...deps, onReplaced: () => {} });
  const reaper = createReaper({ ...deps, lease });
  onTestFinished(() => reaper.close());
  for (let outage = 1; outage <= 2; outage += 1) {
    status = 500;
    await clock.advance(10 * LEASE_RENEW_MS);
    expect(said.toSorted()).toEqual(
      ['lease_not_renewed', 'reap_failed'].flatMap((e) => Array(outage).fill(e)),
    );
    status = undefined;
    await clock.advance(2 * LEASE_RENEW_MS);
  }
});

test.for([EXPIRY_MS - 2_000, EXPIRY_MS + 1, 10 * EXPIRY_MS])(
  'the first whose renewal goes through after %i ms without writes leaves the others their pods',
  async (outageMs) => {
    const cluster = openCluster();
    const first = await startInstance(cluster, 'a');
    // Their rounds do not fall together: the other one's Lease is older by almost one renewal.
    await cluster.clock.advance(LEASE_RENEW_MS - 100);
    const other = await startInstance(cluster, 'b');
    await cluster.clock.advance(2 * EXPIRY_MS + 50);
    first.writes = false;
    other.writes = false;
    await cluster.clock.advance(outageMs);
    first.writes = true;
    await cluster.clock.advance(2 * REAP_MS);
    other.writes = true;
    await cluster.clock.advance(3 * EXPIRY_MS);
    expect([first.isLost(), other.isLost()]).toEqual([false, false]);
  },
);

test('agents that stood still together with their cluster leave each other their pods', async () => {
  const cluster = openCluster();
  const first = await startInstance(cluster, 'a');
  const other = await startInstance(cluster, 'b');
  await cluster.clock.advance(2 * EXPIRY_MS + 50);
  cluster.clock.standStill(10 * EXPIRY_MS);
  other.writes = false;
  await cluster.clock.advance(2 * REAP_MS);
  other.writes = true;
  await cluster.clock.advance(3 * EXPIRY_MS);
  expect([first.isLost(), other.isLost()]).toEqual([false, false]);
});

test.for([
  ['while all is well', 0],
  ['after an outage', 2 * EXPIRY_MS],
] as const)('the pods of an instance that died %s go in their time', async ([_when, outageMs]) => {
  const cluster = openCluster();
  const first = await startInstance(cluster, 'a');
  const dead = await startInstance(cluster, 'b');
  await cluster.clock.advance(2 * EXPIRY_MS + 50);
  dead.writes = false;
  first.writes = outageMs === 0;
  await cluster.clock.advance(outageMs);
  first.writes = true;
  await cluster.clock.advance(EXPIRY_MS - LEASE_RENEW_MS);
  expect(dead.isLost()).toBe(false);
  await cluster.clock.advance(LEASE_RENEW_MS + 2 * REAP_MS);
  expect([first.isLost(), dead.isLost()]).toEqual([false, true]);
});
