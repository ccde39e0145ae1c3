import type { Duplex } from 'node:stream';
import { Failure } from '../../../shared/errors.ts';
import { createBackoff } from '../../backoff.ts';
import type { ClusterFacts } from '../../cluster.ts';
import { orAborted } from '../../deadline.ts';
import type { Backend, Sandbox } from '../backend.ts';
import type { KubeClient } from './kube-client.ts';
import {
  createKubernetesBackend,
  type KubernetesBackend,
  type KubernetesBackendDeps,
} from './kubernetes-backend.ts';
import { pause } from './pause.ts';

const RETRY_BASE_MS = 1_000;
const RETRY_MAX_MS = 30_000;

export type KubernetesClusterDeps = Omit<KubernetesBackendDeps, 'client' | 'namespace'> & {
  /** For messages: `context 'a' of FILE`. */
  what: string;
  /** Reads the context anew and says where its sandboxes go. Rejects with a Failure where it cannot be used. */
  connect: () => Promise<{ client: KubeClient; namespace: string }>;
};

/** A cluster's backend, and what is known of the cluster. */
export type KubernetesCluster = { readonly backend: Backend; facts(): ClusterFacts };

/**
 * The backend of one context, which need not be reachable yet: it is tried for again and again, so that one context's
 * trouble keeps no other from serving. Until then sandboxes are refused and `facts` says why.
 */
export function createKubernetesCluster(deps: KubernetesClusterDeps): KubernetesCluster {
  const { what, clock, random, log } = deps;
  const stop = new AbortController();
  let opened: KubernetesBackend | undefined;
  let opening: Promise<KubernetesBackend> | undefined;
  let version: string | null = null;
  let trouble: string | null = null;

  function open(): Promise<KubernetesBackend> {
    opening ??= tryOpen().finally(() => {
      opening = undefined;
    });
    return opened ? Promise.resolve(opened) : opening;
  }

  async function tryOpen(): Promise<KubernetesBackend> {
    if (opened) return opened;
    let client: KubeClient | undefined;
    try {
      stop.signal.throwIfAborted();
      const place = await deps.connect();
      client = place.client;
      version = await readVersion(client);
      opened = await createKubernetesBackend({ ...deps, ...place });
      if (trouble !== null) log('cluster_reached', { namespace: place.namespace });
      trouble = null;
      log('cluster_connected', { what, namespace: place.namespace, kubernetes_version: version });
    } catch (cause) {
      client?.access.close();
      throw refused(cause);
    }
    if (!stop.signal.aborted) return opened;
    // Closed meanwhile: what has just been made goes.
    await opened.close();
    throw new Failure('draining', 'The agent ends.');
  }

  /** The sentence with file and context is for the log and for keys with scope `clusters`; callers learn less. */
  function refused(cause: unknown): Failure {
    const detail = cause instanceof Failure ? cause.detail : 'It cannot be used.';
    const isWhole = cause instanceof Failure && cause.code === 'invalid_request';
    const sentence = isWhole ? detail : `${what[0]?.toUpperCase()}${what.slice(1)}: ${detail}`;
    if (!stop.signal.aborted && sentence !== trouble)
      log('cluster_unavailable', { detail: sentence, cause: cause instanceof Failure ? cause.cause : cause });
    trouble = sentence;
    return new Failure('backend_unavailable', 'The cluster cannot be reached or used now.', { cause });
  }

  async function keepTrying(): Promise<void> {
    const backoff = createBackoff({ baseMs: RETRY_BASE_MS, maxMs: RETRY_MAX_MS, random });
    while (!stop.signal.aborted && !opened) {
      try {
        await open();
      } catch {
        await pause(clock, backoff.next(), stop.signal).catch(() => {});
      }
    }
  }

  void keepTrying();
  const backend: Backend = {
    kind: 'kubernetes',
    reconnects: true,
    freshPerExecution: false,
    async create(template, signal): Promise<Sandbox> {
      const made = opened ?? (await orAborted(open(), signal));
      return made.create(template, signal);
    },
    connect: async (sandbox, signal): Promise<Duplex> => (await open()).connect(sandbox, signal),
    endOf: async (sandbox, signal) => opened?.endOf(sandbox, signal),
    destroy: async (sandbox) => opened?.destroy(sandbox),
    list: async () => (await open()).list(),
    async close() {
      stop.abort(new Failure('draining', 'The agent ends.'));
      await opening?.catch(() => {});
      await opened?.close();
    },
  };
  return {
    backend,
    facts: () => ({
      kubernetes_version: version,
      isolation: { checked_at: null, findings: [] },
      unavailable: trouble,
    }),
  };
}

async function readVersion(client: KubeClient): Promise<string | null> {
  try {
    const { gitVersion } = await client.call<{ gitVersion?: string }>({ method: 'GET', path: '/version' });
    return typeof gitVersion === 'string' ? gitVersion.slice(0, 64) : null;
  } catch (cause) {
    // Some clusters let nobody read it; one that does not answer at all has nothing to offer.
    if (cause instanceof Failure && 'httpStatus' in cause) return null;
    throw cause;
  }
}
