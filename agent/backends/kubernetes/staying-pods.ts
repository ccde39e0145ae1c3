import { Failure } from '../../../shared/errors.ts';
import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import type { PodWatch } from './pod-watch.ts';

/** Finalizers that are in use take their time. */
export const STAY_MS = 60_000;
const LOOKS = 6;
/** Each is some 130 KB in the cluster's etcd, which usually has 2 GB for all that there is. */
export const MAX_STAYING_PODS = 200;

export type StayingPodsDeps = { watch: Pick<PodWatch, 'all'>; clock: Clock; log: Log; stayMs?: number };

/** Pods that were deleted long ago and that somebody's finalizer keeps. Their containers are gone; they are not. */
export type StayingPods = {
  /** Throws a Failure while there are so many that another sandbox would be one pod too many before long. */
  requireFew(): void;
  close(): void;
};

export function createStayingPods(deps: StayingPodsDeps): StayingPods {
  const { watch, clock, log, stayMs = STAY_MS } = deps;
  let since = new Map<string, number>();
  let staying = 0;
  let finalizers: readonly string[] = [];
  /** Said once, and again where it is another's doing. */
  let said = '';
  let cancel = clock.after(stayMs / LOOKS, look);

  function look(): void {
    cancel = clock.after(stayMs / LOOKS, look);
    const seen = new Map<string, number>();
    const owners = new Set<string>();
    staying = 0;
    for (const { metadata: { name = '', deletionTimestamp, finalizers: own = [] } = {} } of watch.all()) {
      if (deletionTimestamp === undefined || own.length === 0) continue;
      const sinceMs = since.get(name) ?? clock.now();
      seen.set(name, sinceMs);
      if (clock.now() - sinceMs < stayMs) continue;
      staying += 1;
      for (const owner of own) owners.add(owner);
    }
    since = seen;
    finalizers = [...owners].sort();
    const words = `${finalizers} ${staying >= MAX_STAYING_PODS}`;
    if (staying > 0 && words !== said) log('pods_stay', { pods: staying, finalizers });
    said = staying > 0 ? words : '';
  }

  return {
    requireFew() {
      if (staying < MAX_STAYING_PODS) return;
      const detail = `${staying} pods that were deleted stay, kept by ${finalizers.join(', ')}: no more are made until these finalizers are taken from them.`;
      throw new Failure('backend_unavailable', detail);
    },
    close: () => cancel(),
  };
}
