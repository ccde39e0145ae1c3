import { Failure } from '../../../shared/errors.ts';
import type { ClusterFacts } from '../../cluster.ts';
import type { Backend } from '../backend.ts';
import { createLateBackend, type LateBackend } from '../late-backend.ts';
import type { KubeClient } from './kube-client.ts';
import {
  createKubernetesBackend,
  type KubernetesBackend,
  type KubernetesBackendDeps,
} from './kubernetes-backend.ts';
import type { RightsBook } from './rights.ts';

export type KubernetesClusterDeps = Omit<KubernetesBackendDeps, 'client' | 'namespace' | 'signal'> & {
  /** For messages: `context 'a' of FILE`. */
  what: string;
  /** Reads the context anew and says where its sandboxes go. Rejects with a Failure where it cannot be used. */
  connect: () => Promise<{ client: KubeClient; namespace: string }>;
  /** What connect()'s client finds the agent to have no right to. */
  rights: RightsBook;
};

/** A cluster's backend, and what is known of the cluster. */
export type KubernetesCluster = {
  readonly backend: Backend;
  facts(): ClusterFacts;
  onFacts(listener: () => void): () => void;
};

/** The backend of one context, which need not be reachable yet. */
export function createKubernetesCluster(deps: KubernetesClusterDeps): KubernetesCluster {
  const { what, clock, random, log } = deps;
  let version: string | null = null;
  /** What the board says before the cluster is reached. */
  let written = '';

  async function open(signal: AbortSignal): Promise<KubernetesBackend> {
    const place = await deps.connect();
    try {
      version = await readVersion(place.client, signal);
      const opened = await createKubernetesBackend({ ...deps, ...place, signal });
      if (written !== '') opened.board.write(written);
      log('cluster_connected', { what, namespace: place.namespace, kubernetes_version: version });
      return opened;
    } catch (cause) {
      place.client.access.close();
      throw cause;
    }
  }

  const late: LateBackend<KubernetesBackend> = createLateBackend<KubernetesBackend>({
    kind: 'kubernetes',
    reconnects: true,
    freshPerExecution: false,
    board: {
      leads: () => late.opened?.board.leads() ?? false,
      read: () => late.opened?.board.read(),
      write(text) {
        written = text;
        late.opened?.board.write(text);
      },
    },
    what,
    open,
    clock,
    random,
    log,
  });
  return {
    backend: late.backend,
    onFacts: deps.rights.onChange,
    facts: () => ({
      kubernetes_version: version,
      unavailable: late.trouble,
      impaired: deps.rights.sentence,
    }),
  };
}

async function readVersion(client: KubeClient, signal: AbortSignal): Promise<string | null> {
  try {
    const call = { method: 'GET', path: '/version', signal } as const;
    const { gitVersion } = await client.call<{ gitVersion?: string }>(call);
    return typeof gitVersion === 'string' ? gitVersion.slice(0, 64) : null;
  } catch (cause) {
    // Some clusters let nobody read it; one that does not answer at all has nothing to offer.
    if (cause instanceof Failure && 'httpStatus' in cause) return null;
    throw cause;
  }
}
