import { createBackoff } from '../../backoff.ts';
import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { pause } from '../../pause.ts';
import type { KubeClient } from './kube-client.ts';
import { isPassing, lacksRight } from './kube-failure.ts';
import { deletePod } from './reaper.ts';

const DESTROY_TRIES = 12;

export type RemovePodDeps = {
  client: KubeClient;
  namespace: string;
  clock: Clock;
  random: () => number;
  log: Log;
  /** Ends the tries. */
  signal: AbortSignal;
};

/** Tries for minutes, as nobody waits for it. What is left then ends itself: its stream is gone. */
export async function removePod(deps: RemovePodDeps, pod: { name: string; uid?: string }): Promise<void> {
  const { client, namespace, clock, random, log, signal } = deps;
  const backoff = createBackoff({ baseMs: 500, maxMs: 30_000, random });
  for (;;) {
    try {
      return await deletePod(client, namespace, pod);
    } catch (cause) {
      if (signal.aborted || !isPassing(cause) || backoff.tries >= DESTROY_TRIES) {
        if (!lacksRight(cause)) log('pod_not_deleted', { namespace, pod: pod.name, cause });
        return;
      }
      await pause(clock, backoff.next(), signal).catch(() => {});
    }
  }
}
