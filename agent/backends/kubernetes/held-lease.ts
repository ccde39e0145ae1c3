import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { LABEL, MANAGED_BY } from '../labels.ts';
import type { KubeClient } from './kube-client.ts';
import { isRefused, lacksRight } from './kube-failure.ts';
import type { Lease } from './kube-objects.ts';
import { INSTANCE_ANNOTATION, labelValue, leaseName } from './labels.ts';

/** Unrenewed for so long, an instance counts as dead. */
export const LEASE_SECONDS = 15;
export const LEASE_RENEW_MS = 5_000;
/**
 * Shares of a Lease's time. A renewal that hangs on a dead connection leaves time for another over a new one; the second
 * try has more of it, as the server may be slow.
 */
const TIMEOUT_SHARE = 1 / 4;
const SECOND_TIMEOUT_SHARE = 2 / 3;
const RETRY_SHARE = 1 / 15;
/** Renewals that are further apart than this share say that others may have been kept from theirs as well. */
const GAP_SHARE = 1 / 2;
/** A Lease that is shorter than usual makes no server faster. */
const MIN_TIMEOUT_MS = 1_000;
/** An agent that ends waits no longer for a Lease that may have been made; others delete it once it stands unrenewed. */
const GIVEN_UP_TIMEOUT_MS = 2_000;

export function leasesPath(namespace: string): string {
  return `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
}

export type HeldLeaseDeps = {
  client: KubeClient;
  namespace: string;
  installation: string;
  instance: string;
  clock: Clock;
  log: Log;
  /** Somebody took this instance for dead: what the old Lease owned is collected, and a new one stands. */
  onReplaced: () => void;
  /** Gives up what is not made yet. */
  signal?: AbortSignal;
  seconds?: number;
  renewMs?: number;
};

/** The instance's Lease: owner of its pods, and its sign of life. */
export type HeldLease = {
  readonly name: string;
  /** The owner's uid for new pods. Changes when the Lease had to be made again. */
  readonly uid: string;
  /** Renewals have gone through since then, by the clock's now(), each soon after the one before. */
  readonly steadySinceMs: number;
  /** Says something to the other instances, with a renewal that comes at once. */
  annotate(name: string, text: string): void;
  /** Stops renewing and deletes it: the cluster collects what it still owns. */
  release(): Promise<void>;
};

/** Makes the Lease and keeps it renewed. Rejects with a Failure when it cannot be made, or with the signal's reason. */
export async function holdLease(deps: HeldLeaseDeps): Promise<HeldLease> {
  const { client, namespace, installation, instance, clock, log } = deps;
  const { seconds = LEASE_SECONDS, renewMs = LEASE_RENEW_MS } = deps;
  const name = leaseName(installation, instance);
  const path = leasesPath(namespace);
  const said: Record<string, string> = {};
  // Said with each renewal: by what somebody takes away, others would find no Lease, and delete what this instance made.
  const labels = {
    [LABEL.managedBy]: MANAGED_BY,
    [LABEL.installation]: labelValue(installation),
    [LABEL.instance]: labelValue(instance),
  };
  const held = { holderIdentity: instance, leaseDurationSeconds: seconds };
  let lease = await makeFirst();
  let released = false;
  let renewing = false;
  let failed = false;
  /** Said once, and not with each try. */
  let lastTrouble: string | undefined;
  let renewedMs = clock.now();
  let steadySinceMs = renewedMs;
  const isSteady = () => clock.now() - renewedMs <= seconds * 1000 * GAP_SHARE;
  const timeoutFor = (share: number) => Math.max(MIN_TIMEOUT_MS, Math.ceil(seconds * 1000 * share));
  let timeoutMs = timeoutFor(TIMEOUT_SHARE);
  let cancel = clock.after(renewMs, () => void renew());

  async function make(signal?: AbortSignal): Promise<Lease> {
    const body: Lease = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {
        name,
        namespace,
        labels,
        annotations: { ...said, [INSTANCE_ANNOTATION]: instance },
      },
      spec: { ...held, acquireTime: microTime(clock), renewTime: microTime(clock) },
    };
    try {
      return await client.call<Lease>({ method: 'POST', path, body, vital: true, ...(signal && { signal }) });
    } catch (cause) {
      // An answer that was lost: the name is this instance's alone.
      if (!isRefused(cause, 409)) throw cause;
      return client.call<Lease>({
        method: 'GET',
        path: `${path}/${name}`,
        vital: true,
        ...(signal && { signal }),
      });
    }
  }

  /** Whether one that was given up was made nobody knows: it would keep its name from the next. */
  async function makeFirst(): Promise<Lease> {
    const { signal } = deps;
    try {
      return await make(signal);
    } catch (cause) {
      if (!signal?.aborted) throw cause;
      await remove(GIVEN_UP_TIMEOUT_MS);
      throw signal.reason;
    }
  }

  async function renew(): Promise<void> {
    renewing = true;
    timeoutMs = timeoutFor(failed ? SECOND_TIMEOUT_SHARE : TIMEOUT_SHARE);
    failed = false;
    const saying = JSON.stringify(said);
    try {
      const spec = { ...lease.spec, ...held, renewTime: microTime(clock) };
      const metadata = {
        ...lease.metadata,
        labels: { ...lease.metadata?.labels, ...labels },
        annotations: { ...lease.metadata?.annotations, ...said },
      };
      lease = await client.call<Lease>({
        method: 'PUT',
        path: `${path}/${name}`,
        body: { ...lease, metadata, spec },
        timeoutMs,
        vital: true,
      });
      renewed();
    } catch (cause) {
      if (released) return;
      if (isRefused(cause, 404)) await replace();
      else if (isRefused(cause, 409)) await reread();
      else notRenewed(cause);
    }
    renewing = false;
    const usualMs = failed ? Math.min(renewMs, seconds * 1000 * RETRY_SHARE) : renewMs;
    const waitMs = saying === JSON.stringify(said) ? usualMs : 0;
    if (!released) cancel = clock.after(waitMs, () => void renew());
  }

  function renewed(): void {
    if (!isSteady()) steadySinceMs = clock.now();
    renewedMs = clock.now();
    lastTrouble = undefined;
  }

  async function reread(): Promise<void> {
    const { uid } = lease.metadata ?? {};
    try {
      lease = await client.call<Lease>({ method: 'GET', path: `${path}/${name}`, timeoutMs, vital: true });
      // Somebody else's change, or ours whose answer was lost: it is still to be renewed.
      failed = true;
      if (lease.metadata?.uid !== uid) deps.onReplaced();
    } catch (cause) {
      if (isRefused(cause, 404)) await replace();
      else notRenewed(cause);
    }
  }

  function notRenewed(cause: unknown): void {
    failed = true;
    const trouble = String(cause);
    if (!lacksRight(cause) && trouble !== lastTrouble) log('lease_not_renewed', { namespace, cause });
    lastTrouble = trouble;
  }

  async function replace(): Promise<void> {
    if (released) return;
    try {
      lease = await make();
      // Nobody else would delete it: an instance that has ended comes back to no Lease.
      if (released) return await remove();
      renewed();
      log('lease_replaced', { namespace });
      deps.onReplaced();
    } catch (cause) {
      notRenewed(cause);
    }
  }

  async function remove(timeoutMs?: number): Promise<void> {
    try {
      await client.call({
        method: 'DELETE',
        path: `${path}/${name}`,
        vital: true,
        ...(timeoutMs && { timeoutMs }),
      });
    } catch (cause) {
      if (!isRefused(cause, 404) && !lacksRight(cause)) log('lease_not_released', { namespace, cause });
    }
  }

  return {
    name,
    get uid() {
      return lease.metadata?.uid ?? '';
    },
    get steadySinceMs() {
      return isSteady() ? steadySinceMs : clock.now();
    },
    annotate(key, text) {
      if (said[key] === text || released) return;
      said[key] = text;
      if (renewing) return;
      cancel();
      cancel = clock.after(0, () => void renew());
    },
    async release() {
      released = true;
      cancel();
      await remove();
    },
  };
}

/** Kubernetes' MicroTime wants six decimals. */
function microTime(clock: Clock): string {
  return new Date(clock.wall()).toISOString().replace('Z', '000Z');
}
