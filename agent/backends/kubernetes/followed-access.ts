import type { FollowLog } from './follow-log.ts';
import type { KubeAccess } from './kube-config.ts';

/** How often the files are looked at. */
export const FOLLOW_MS = 10_000;
/** After a refusal they are read again, and plugins asked again, this often at most. */
export const REFUSED_MS = 1_000;

export type FollowedAccessDeps = {
  first: KubeAccess;
  /** The stamp from before it was read. */
  firstStamp: string;
  /** Reads the context anew. */
  read: () => Promise<KubeAccess>;
  /** Changes when what was read has changed. */
  stamp: () => string;
  told?: FollowLog;
  followMs?: number;
};

/**
 * Access whose credential may be changed while it is used: by whoever writes the kubeconfig, or by the plugin that it
 * names. What cannot be read leaves things as they are, and is told.
 */
export function followAccess(deps: FollowedAccessDeps): KubeAccess {
  const { read, stamp, told, followMs = FOLLOW_MS } = deps;
  let current = deps.first;
  /** Of what was read last; undefined where that failed, to be read again whatever is there. */
  let known: string | undefined = deps.firstStamp;
  let lookedAtMs = performance.now();
  let readAtMs = Number.NEGATIVE_INFINITY;
  let reading: Promise<boolean> | undefined;
  let closed = false;

  async function readAgain(): Promise<boolean> {
    readAtMs = performance.now();
    const seen = stamp();
    try {
      const next = await read();
      if (closed) {
        next.close();
        return false;
      }
      const old = current;
      current = next;
      known = seen;
      told?.succeeded();
      // What is under way on the old sockets ends by itself.
      old.retire();
      return true;
    } catch (cause) {
      known = undefined;
      if (!closed) told?.failed(cause);
      return false;
    } finally {
      reading = undefined;
    }
  }

  async function follow(): Promise<void> {
    if (performance.now() - lookedAtMs < followMs) return;
    lookedAtMs = performance.now();
    if (stamp() === known) return;
    reading ??= readAgain();
    await reading;
  }

  return {
    get context() {
      return current.context;
    },
    get server() {
      return current.server;
    },
    get isProxied() {
      return current.isProxied;
    },
    get namespace() {
      return current.namespace;
    },
    get agent() {
      return current.agent;
    },
    get vitalAgent() {
      return current.vitalAgent;
    },
    async connection() {
      await follow();
      return current.connection();
    },
    refused() {
      if (reading) return reading;
      // Somebody else's refusal has led to it a moment ago.
      if (performance.now() - readAtMs < REFUSED_MS) return Promise.resolve(true);
      reading = readAgain();
      return reading;
    },
    retire: () => current.retire(),
    close() {
      closed = true;
      current.close();
    },
  };
}
