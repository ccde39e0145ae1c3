import { createBackoff } from '../../backoff.ts';
import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { pause } from '../../pause.ts';
import { type KubeClient, REQUEST_TIMEOUT_MS, SLOW_TIMEOUT_MS } from './kube-client.ts';
import { isPassing, lacksRight } from './kube-failure.ts';
import { deletePod, deletePods } from './reaper.ts';

const DESTROY_TRIES = 12;
const CLOSE_TIMEOUT_MS = 10_000;
const CLOSE_TRIES = 3;

export type PodRemovalDeps = {
  client: KubeClient;
  namespace: string;
  clock: Clock;
  random: () => number;
  log: Log;
  /** Ends the tries. */
  signal: AbortSignal;
};

export type RemovedPod = { name: string; uid?: string | undefined };

export type PodRemoval = {
  /** Deletes a pod, for as long as that takes. Never rejects; who asks while it goes on waits for the same. */
  remove(pod: RemovedPod): Promise<void>;
  /** Asks again for those that the agent had no right to delete. Rejects with a Failure while it has none, or cannot ask. */
  retryRefused(): Promise<void>;
};

export function createPodRemoval(deps: PodRemovalDeps): PodRemoval {
  const { client, namespace, clock, random, log, signal } = deps;
  const underWay = new Map<string, Promise<void>>();
  const refused = new Map<string, RemovedPod>();

  /** Tries for minutes, as nobody waits for it. What is left then ends itself: its stream is gone. */
  async function tryToRemove(pod: RemovedPod): Promise<void> {
    const backoff = createBackoff({ baseMs: 500, maxMs: 30_000, random });
    for (;;) {
      try {
        const timeoutMs = backoff.tries === 0 ? REQUEST_TIMEOUT_MS : SLOW_TIMEOUT_MS;
        await deletePod(client, namespace, { ...pod, timeoutMs });
        refused.delete(pod.name);
        return;
      } catch (cause) {
        if (lacksRight(cause)) refused.set(pod.name, pod);
        if (signal.aborted || !isPassing(cause) || backoff.tries >= DESTROY_TRIES) {
          if (!lacksRight(cause)) log('pod_not_deleted', { namespace, pod: pod.name, cause });
          return;
        }
        await pause(clock, backoff.next(), signal).catch(() => {});
      }
    }
  }

  function remove(pod: RemovedPod): Promise<void> {
    const removal = underWay.get(pod.name) ?? tryToRemove(pod).finally(() => underWay.delete(pod.name));
    underWay.set(pod.name, removal);
    return removal;
  }

  return {
    remove,
    async retryRefused() {
      const [first, ...rest] = refused.values();
      if (first === undefined) return;
      await deletePod(client, namespace, first);
      refused.delete(first.name);
      for (const pod of rest) void remove(pod);
    },
  };
}

/** Deletes all that a selector names as their agent ends, which waits no longer than it may. Never rejects. */
export async function deleteLast({
  client,
  namespace,
  selector,
  clock,
  random,
  log,
}: Omit<PodRemovalDeps, 'signal'> & { selector: string }): Promise<void> {
  const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
  const backoff = createBackoff({ baseMs: 500, maxMs: 2_000, random });
  for (;;) {
    try {
      return await deletePods(client, { namespace, selector, signal });
    } catch (cause) {
      if (!isPassing(cause) || signal.aborted || backoff.tries >= CLOSE_TRIES)
        return log('pods_not_deleted', { namespace, cause });
      await pause(clock, backoff.next(), signal).catch(() => {});
    }
  }
}
