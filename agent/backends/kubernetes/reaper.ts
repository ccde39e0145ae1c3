import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { LABEL } from '../labels.ts';
import type { HeldLease } from './held-lease.ts';
import { leasesPath } from './held-lease.ts';
import type { KubeClient } from './kube-client.ts';
import { isRefused, lacksRight } from './kube-failure.ts';
import type { Lease, Pod } from './kube-objects.ts';
import { labelSelector } from './labels.ts';
import { LeaseBook } from './lease-book.ts';
import { listObjects } from './list-objects.ts';
import { GRACE_SECONDS } from './pod-spec.ts';

export const REAP_MS = 5_000;
/** Every so many rounds pods are looked for whose instance has no Lease at all. */
export const ORPHAN_ROUNDS = 12;

export type ReaperDeps = {
  client: KubeClient;
  namespace: string;
  installation: string;
  lease: HeldLease;
  clock: Clock;
  log: Log;
  reapMs?: number;
  slackMs?: number;
};

/** Deletes what dead instances of the same installation left. Only the leader deletes. */
export type Reaper = {
  /** True where this instance leads, as far as it knows. */
  leads(): boolean;
  /** The Lease of the one that leads, as it was last seen. */
  leader(): Lease | undefined;
  close(): void;
};

export function createReaper(deps: ReaperDeps): Reaper {
  const { client, namespace, installation, lease, clock, log, reapMs = REAP_MS } = deps;
  const book = new LeaseBook(deps.slackMs);
  const stop = new AbortController();
  let round = 0;
  /** Said once, and not with each round. */
  let lastTrouble: string | undefined;
  let cancel = clock.after(0, () => void turn());

  const leader = () => book.leader(clock.now());
  const leads = () => leader()?.metadata?.name === lease.name;

  async function turn(): Promise<void> {
    try {
      await observe();
      if (leads()) await reap();
      lastTrouble = undefined;
    } catch (cause) {
      book.forget();
      const trouble = String(cause);
      const isNew = trouble !== lastTrouble;
      lastTrouble = trouble;
      if (isNew && !stop.signal.aborted && !lacksRight(cause)) log('reap_failed', { namespace, cause });
    }
    if (!stop.signal.aborted) cancel = clock.after(reapMs, () => void turn());
  }

  async function observe(): Promise<void> {
    const { items } = await listObjects<Lease>(client, {
      path: leasesPath(namespace),
      labelSelector: labelSelector(installation),
      signal: stop.signal,
      vital: true,
    });
    // While the cluster took nothing from this instance, it may have taken nothing from the others: they live.
    book.observe(items, clock.now(), lease.steadySinceMs);
  }

  async function reap(): Promise<void> {
    const failures: unknown[] = [];
    const dead = new Set<string>();
    for (const expired of book.expired(clock.now())) {
      const isBuried = await buryLease(client, namespace, expired).catch(
        (cause) => void failures.push(cause),
      );
      if (isBuried) dead.add(expired.metadata?.labels?.[LABEL.instance] ?? '');
    }
    for (const pod of await findLeft(dead)) {
      if (stop.signal.aborted) return;
      await deletePod(client, namespace, pod.metadata ?? {}).catch((cause) => failures.push(cause));
    }
    // Only now: one that cannot be deleted keeps no other.
    if (failures.length > 0) throw failures[0];
  }

  /** The pods of the dead, and now and then of those who have no Lease at all. */
  async function findLeft(dead: ReadonlySet<string>): Promise<Pod[]> {
    const looksForOrphans = round % ORPHAN_ROUNDS === 0;
    round += 1;
    if (dead.size === 0 && !looksForOrphans) return [];
    const pods = await listPods(client, {
      namespace,
      selector: labelSelector(installation),
      signal: stop.signal,
      metadataOnly: true,
    });
    // The Leases after the pods: an instance makes its Lease before its first pod.
    if (looksForOrphans) await observe();
    // A list without this instance's own Lease is not to be believed in what else it lacks.
    if (!leads()) return [];
    const known = book.instances();
    const left = pods.filter(({ metadata }) => {
      const instance = metadata?.labels?.[LABEL.instance] ?? '';
      const isLeft = dead.has(instance) || (looksForOrphans && !known.has(instance));
      return isLeft && metadata?.deletionTimestamp === undefined;
    });
    if (left.length > 0) log('pods_reaped', { namespace, pods: left.length, instances: dead.size });
    return left;
  }

  return {
    leads,
    leader,
    close() {
      stop.abort();
      cancel();
    },
  };
}

/** Deletes a Lease that is still exactly as it was seen: a renewal in between is a sign of life. */
export async function buryLease(
  client: KubeClient,
  namespace: string,
  { metadata }: Lease,
): Promise<boolean> {
  const { name, uid, resourceVersion } = metadata ?? {};
  const body = { kind: 'DeleteOptions', apiVersion: 'v1', preconditions: { uid, resourceVersion } };
  try {
    await client.call({ method: 'DELETE', path: `${leasesPath(namespace)}/${name}`, body, vital: true });
    return true;
  } catch (cause) {
    if (isRefused(cause, 404)) return true;
    if (isRefused(cause, 409)) return false;
    throw cause;
  }
}

export type ListedPods = {
  namespace: string;
  selector: string;
  signal?: AbortSignal;
  /** Of each, without the 130 KB of its command: a thousand pods are more than an agent has memory for. */
  metadataOnly?: boolean;
};

/** Every pod that a selector names. */
export async function listPods(
  client: KubeClient,
  { namespace, selector, ...rest }: ListedPods,
): Promise<Pod[]> {
  const path = `/api/v1/namespaces/${namespace}/pods`;
  return (await listObjects<Pod>(client, { path, labelSelector: selector, ...rest })).items;
}

/** Deletes exactly this pod: another of its name is left alone. Resolves also when it is gone already. */
export async function deletePod(
  client: KubeClient,
  namespace: string,
  { name, uid, timeoutMs }: { name?: string | undefined; uid?: string | undefined; timeoutMs?: number },
): Promise<void> {
  const preconditions = uid === undefined ? {} : { preconditions: { uid } };
  // Said again: the pod's own may be what admission made of it.
  const body = {
    kind: 'DeleteOptions',
    apiVersion: 'v1',
    gracePeriodSeconds: GRACE_SECONDS,
    ...preconditions,
  };
  try {
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    await client.call({ method: 'DELETE', path, body, ...(timeoutMs && { timeoutMs }) });
  } catch (cause) {
    if (!isRefused(cause, 404) && !isRefused(cause, 409)) throw cause;
  }
}

/** Deletes every pod that a selector names, whatever becomes of the others. Rejects with the first failure. */
export async function deletePods(
  client: KubeClient,
  { namespace, selector, signal }: { namespace: string; selector: string; signal: AbortSignal },
): Promise<void> {
  const pods = await listPods(client, { namespace, selector, signal, metadataOnly: true });
  const deletions = pods.map(({ metadata }) => deletePod(client, namespace, metadata ?? {}));
  const failed = (await Promise.allSettled(deletions)).find(({ status }) => status === 'rejected');
  if (failed) throw (failed as PromiseRejectedResult).reason;
}
