import { LEASE_SECONDS, leasesPath } from '../backends/kubernetes/held-lease.ts';
import type { KubeClient } from '../backends/kubernetes/kube-client.ts';
import type { Lease } from '../backends/kubernetes/kube-objects.ts';
import { LEASE_SLACK_MS } from '../backends/kubernetes/lease-book.ts';
import { listObjects } from '../backends/kubernetes/list-objects.ts';
import { buryLease } from '../backends/kubernetes/reaper.ts';
import { LABEL, MANAGED_BY } from '../backends/labels.ts';
import type { Clock } from '../clock.ts';
import { pause } from '../pause.ts';
import type { Check } from './check.ts';

/** A doctor's Lease that stands unchanged for so long before another's eyes is a dead one's. */
const DEAD_AFTER_MS = LEASE_SECONDS * 1000 + LEASE_SLACK_MS;
const DOCTOR = /^doctor-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Names one examination. Its installation has the same name, so that no agent takes part in it, nor reaps what it left. */
export function doctorInstance(): string {
  return `doctor-${crypto.randomUUID()}`;
}

export type KilledDoctorsDeps = {
  client: KubeClient;
  namespace: string;
  clock: Clock;
  signal: AbortSignal;
};

/**
 * Sees which doctors have a Lease now. Returns what removes, at the end of the examination, those that nobody has renewed
 * since; the cluster collects the pods that they owned. It waits only where there are such.
 */
export async function lookForDoctors({
  client,
  namespace,
  clock,
  signal,
}: KilledDoctorsDeps): Promise<() => AsyncGenerator<Check>> {
  async function list(): Promise<Lease[]> {
    const labelSelector = `${LABEL.managedBy}=${MANAGED_BY}`;
    const { items } = await listObjects<Lease>(client, {
      path: leasesPath(namespace),
      labelSelector,
      signal,
    });
    return items.filter(isDoctors);
  }

  const seen = await list();
  const seenMs = clock.now();
  return async function* removeKilled() {
    if (seen.length === 0) return;
    const now = new Set((await list()).map(versionOf));
    const unchanged = seen.filter((lease) => now.has(versionOf(lease)));
    if (unchanged.length === 0) return;
    await pause(clock, Math.max(0, seenMs + DEAD_AFTER_MS - clock.now()), signal);
    const buried = await Promise.all(unchanged.map((lease) => buryLease(client, namespace, lease)));
    const detail = `what ${buried.filter(Boolean).length} of them had left is removed`;
    if (buried.includes(true)) yield { name: 'killed doctors', state: 'ok', detail };
  };
}

function isDoctors({ metadata }: Lease): boolean {
  const { [LABEL.instance]: instance = '', [LABEL.installation]: installation } = metadata?.labels ?? {};
  return DOCTOR.test(instance) && installation === instance;
}

function versionOf({ metadata }: Lease): string {
  return `${metadata?.uid} ${metadata?.resourceVersion}`;
}
