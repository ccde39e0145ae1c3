import { Failure } from '../../../shared/errors.ts';
import type { Clock } from '../../clock.ts';
import type { AgentConfig } from '../../config.ts';
import type { Log } from '../../log.ts';
import { chooseContexts } from './cluster-contexts.ts';
import { createKubeClient } from './kube-client.ts';
import { type KubeContexts, loadKubeContexts } from './kube-config.ts';
import type { KubernetesBackendDeps } from './kubernetes-backend.ts';
import { createKubernetesCluster, type KubernetesCluster } from './kubernetes-cluster.ts';
import { createRightsBook } from './rights.ts';

const DEFAULT_NAMESPACE = 'default';

/** How soon a dead instance is noticed: only tests are in a hurry. */
export type LeaseTimes = Pick<KubernetesBackendDeps, 'leaseSeconds' | 'renewMs' | 'reapMs' | 'slackMs'>;

export type KubernetesClustersDeps = {
  config: Pick<AgentConfig, 'kubernetes'>;
  instance: string;
  clock: Clock;
  random: () => number;
  log: Log;
  leaseTimes?: LeaseTimes | undefined;
};

/**
 * The clusters of the contexts that the configuration names. Rejects with a Failure (`invalid_request`) when the
 * kubeconfig cannot be read, when a name does not fit, or when no context at all can be used. One that cannot is said in
 * the log and in /v1/clusters, and is tried again: the others serve.
 */
export async function createKubernetesClusters(
  deps: KubernetesClustersDeps,
): Promise<(KubernetesCluster & { name: string })[]> {
  const { instance, clock, random, log } = deps;
  const { kubeconfig, contexts: wanted, namespace, installation, cluster: only } = deps.config.kubernetes;
  const { proxyTo } = deps.config.kubernetes;
  const contexts = await loadKubeContexts(kubeconfig, { proxyTo });
  const { names, current, where } = contexts;
  for (const { detail } of contexts.problems) log('kubeconfig_ignored', { detail });
  const chosen = chooseContexts({ names, current, wanted, cluster: only, where });
  checkOne(
    contexts,
    chosen.map(({ context }) => context),
  );
  return chosen.map(({ cluster, context }) => {
    const what = `context '${context}' of ${contexts.fileOf(context)}`;
    const said: Log = (event, fields) => log(event, { cluster, ...fields });
    const rights = createRightsBook({ clock, log: said });
    return {
      name: cluster,
      ...createKubernetesCluster({
        ...deps.leaseTimes,
        what,
        rights,
        installation,
        // Two contexts may lead to one namespace: each has a Lease of its own there.
        instance: `${instance}.${cluster}`,
        clock,
        random,
        log: said,
        async connect() {
          const access = (await loadKubeContexts(kubeconfig, { proxyTo, log: said })).access(context);
          const client = createKubeClient(access, rights);
          return { client, namespace: namespace ?? access.namespace ?? DEFAULT_NAMESPACE };
        },
      }),
    };
  });
}

/** Throws the first context's Failure when none of them can be used as it is written. */
function checkOne(contexts: KubeContexts, chosen: readonly string[]): void {
  let first: unknown;
  for (const context of chosen) {
    try {
      contexts.access(context).close();
      return;
    } catch (cause) {
      first ??= cause;
    }
  }
  if (first instanceof Failure) throw first;
}
