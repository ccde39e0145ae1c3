import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { LABEL, MANAGED_BY } from '../labels.ts';
import type { KubeClient } from './kube-client.ts';
import { isRefused } from './kube-failure.ts';
import type { Lease } from './kube-objects.ts';
import { INSTANCE_ANNOTATION, labelValue, leaseName } from './labels.ts';

/** Unrenewed for so long, an instance counts as dead. */
export const LEASE_SECONDS = 15;
export const LEASE_RENEW_MS = 5_000;

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
  seconds?: number;
  renewMs?: number;
};

/** The instance's Lease: owner of its pods, and its sign of life. */
export type HeldLease = {
  readonly name: string;
  /** The owner's uid for new pods. Changes when the Lease had to be made again. */
  readonly uid: string;
  /** Stops renewing and deletes it: the cluster collects what it still owns. */
  release(): Promise<void>;
};

/** Makes the Lease and keeps it renewed. Rejects with a Failure when it cannot be made. */
export async function holdLease(deps: HeldLeaseDeps): Promise<HeldLease> {
  const { client, namespace, installation, instance, clock, log } = deps;
  const { seconds = LEASE_SECONDS, renewMs = LEASE_RENEW_MS } = deps;
  const name = leaseName(installation, instance);
  const path = leasesPath(namespace);
  let lease = await make();
  let released = false;
  let cancel = clock.after(renewMs, () => void renew());

  async function make(): Promise<Lease> {
    const body: Lease = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {
        name,
        namespace,
        labels: {
          [LABEL.managedBy]: MANAGED_BY,
          [LABEL.installation]: labelValue(installation),
          [LABEL.instance]: labelValue(instance),
        },
        annotations: { [INSTANCE_ANNOTATION]: instance },
      },
      spec: {
        holderIdentity: instance,
        leaseDurationSeconds: seconds,
        acquireTime: microTime(clock),
        renewTime: microTime(clock),
      },
    };
    try {
      return await client.call<Lease>({ method: 'POST', path, body });
    } catch (cause) {
      // An answer that was lost: the name is this instance's alone.
      if (!isRefused(cause, 409)) throw cause;
      return client.call<Lease>({ method: 'GET', path: `${path}/${name}` });
    }
  }

  async function renew(): Promise<void> {
    try {
      const spec = { ...lease.spec, renewTime: microTime(clock) };
      lease = await client.call<Lease>({ method: 'PUT', path: `${path}/${name}`, body: { ...lease, spec } });
    } catch (cause) {
      if (released) return;
      if (isRefused(cause, 404)) await replace();
      else if (isRefused(cause, 409)) await reread();
      else log('lease_not_renewed', { namespace, cause });
    }
    if (!released) cancel = clock.after(renewMs, () => void renew());
  }

  async function reread(): Promise<void> {
    const { uid } = lease.metadata ?? {};
    try {
      lease = await client.call<Lease>({ method: 'GET', path: `${path}/${name}` });
      if (lease.metadata?.uid !== uid) deps.onReplaced();
    } catch (cause) {
      if (isRefused(cause, 404)) await replace();
      else log('lease_not_renewed', { namespace, cause });
    }
  }

  async function replace(): Promise<void> {
    try {
      lease = await make();
      log('lease_replaced', { namespace });
      deps.onReplaced();
    } catch (cause) {
      log('lease_not_renewed', { namespace, cause });
    }
  }

  return {
    name,
    get uid() {
      return lease.metadata?.uid ?? '';
    },
    async release() {
      released = true;
      cancel();
      try {
        await client.call({ method: 'DELETE', path: `${path}/${name}` });
      } catch (cause) {
        if (!isRefused(cause, 404)) log('lease_not_released', { namespace, cause });
      }
    },
  };
}

/** Kubernetes' MicroTime wants six decimals. */
function microTime(clock: Clock): string {
  return new Date(clock.wall()).toISOString().replace('Z', '000Z');
}
