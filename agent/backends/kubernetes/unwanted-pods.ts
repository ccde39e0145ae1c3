import type { Clock } from '../../clock.ts';
import { podState } from './pod-state.ts';
import type { PodWatch } from './pod-watch.ts';

/** A pod that ended stays so long for endOf() to be asked; one that is being created has time to become known. */
export const UNWANTED_MS = 30_000;
export const SWEEP_MS = 10_000;

export type UnwantedPodsDeps = {
  watch: Pick<PodWatch, 'all'>;
  clock: Clock;
  isKnown: (name: string) => boolean;
  remove: (name: string, uid: string | undefined) => Promise<void>;
};

/**
 * Looks again and again for pods of this instance that have ended, or that it knows nothing of: an answer that was lost,
 * a name that was left. Returns what ends it.
 */
export function sweepUnwantedPods({ watch, clock, isKnown, remove }: UnwantedPodsDeps): () => void {
  let unwanted = new Map<string, number>();
  let cancel = clock.after(SWEEP_MS, sweep);

  function sweep(): void {
    cancel = clock.after(SWEEP_MS, sweep);
    const seen = new Map<string, number>();
    for (const pod of watch.all()) {
      const { name = '', uid, deletionTimestamp } = pod.metadata ?? {};
      const isWanted = isKnown(name) && podState(pod).phase !== 'ended';
      if (isWanted || deletionTimestamp !== undefined) continue;
      const sinceMs = unwanted.get(name) ?? clock.now();
      seen.set(name, sinceMs);
      if (clock.now() - sinceMs < UNWANTED_MS) continue;
      void remove(name, uid);
    }
    unwanted = seen;
  }

  return () => cancel();
}
