import { createBackoff } from '../../backoff.ts';
import type { Clock } from '../../clock.ts';
import { pause } from '../../pause.ts';
import { type KubeClient, REQUEST_TIMEOUT_MS, SLOW_TIMEOUT_MS } from './kube-client.ts';
import type { V1Pod } from './kube-config.ts';
import { isPassing, isRefused, KubeRefusal } from './kube-failure.ts';
import type { Pod } from './kube-objects.ts';

const CREATE_TRIES = 4;

export type CreatePodDeps = { client: KubeClient; namespace: string; clock: Clock; random: () => number };

/** The pod's name comes with it, so that a lost answer can be asked for again without a second pod. */
export async function createPod(deps: CreatePodDeps, body: V1Pod, signal: AbortSignal): Promise<Pod> {
  const { client, namespace, clock, random } = deps;
  const path = `/api/v1/namespaces/${namespace}/pods`;
  const backoff = createBackoff({ baseMs: 200, maxMs: 2_000, random });
  for (;;) {
    try {
      // Longer only after a first try: that may have hung on a dead connection.
      const timeoutMs = backoff.tries === 0 ? REQUEST_TIMEOUT_MS : SLOW_TIMEOUT_MS;
      // Not aborted once it is sent: whether there is a pod to delete must be known.
      return await client.call<Pod>({ method: 'POST', path, body, timeoutMs });
    } catch (cause) {
      if (isRefused(cause, 409) && cause.reason === 'AlreadyExists')
        return client.call<Pod>({ method: 'GET', path: `${path}/${body.metadata?.name}` });
      if (signal.aborted || !isPassing(cause) || backoff.tries + 1 >= CREATE_TRIES) throw cause;
      const asked = cause instanceof KubeRefusal ? (cause.retryAfterMs ?? 0) : 0;
      await pause(clock, Math.max(asked, backoff.next()), signal);
    }
  }
}
