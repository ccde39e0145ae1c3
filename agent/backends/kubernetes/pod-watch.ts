import { Failure } from '../../../shared/errors.ts';
import { createBackoff } from '../../backoff.ts';
import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { pause } from '../../pause.ts';
import type { KubeClient } from './kube-client.ts';
import { isRefused, type KubeRefusal, lacksRight } from './kube-failure.ts';
import type { Pod, Status, WatchEvent } from './kube-objects.ts';
import { isSelected } from './labels.ts';
import { listObjects } from './list-objects.ts';

/** The server ends a watch after this; bookmarks come about once a minute before. */
const WATCH_SECONDS = 290;
/** Servers send a bookmark a minute: a watch that is silent for longer hangs on a dead connection. */
export const WATCH_IDLE_MS = 90_000;
/** A watch that ends sooner is not asked for again at once: a proxy that ends each would be asked in a circle. */
export const SHORT_WATCH_MS = 1_000;

export type PodWatchDeps = {
  client: KubeClient;
  namespace: string;
  labelSelector: string;
  clock: Clock;
  random: () => number;
  log: Log;
  idleMs?: number;
  /** The server is there again, after a watch that broke. */
  onRestored?: () => void;
};

/**
 * The pods that a selector names, as the server last told. It goes on by itself after drops, restarts of the server and
 * `410 Gone`: from the last version where it can, by listing again where it cannot.
 */
export type PodWatch = {
  /** Resolves with the first list. Rejects where the agent may not list. */
  readonly synced: Promise<void>;
  get(name: string): Pod | undefined;
  all(): Iterable<Pod>;
  /**
   * The first value other than undefined that `see` makes of the pod, now or after a change. `gone` is true once a pod
   * that had been seen is no more. Rejects with the signal's reason, and where the agent may not watch.
   */
  until<T>(
    name: string,
    see: (pod: Pod | undefined, gone: boolean) => T | undefined,
    signal: AbortSignal,
  ): Promise<T>;
  /** Why the server was last not heard; undefined while it is. */
  readonly trouble: Failure | undefined;
  /** For so long the server has said nothing. */
  silentMs(): number;
  /** Reads all again over a new connection: whoever waits for a pod has reason to think that this one is dead. */
  refresh(): void;
  /** Lists, that is full reads, so far: for tests. */
  readonly lists: number;
  close(): void;
};

export function createPodWatch(deps: PodWatchDeps): PodWatch {
  const { client, namespace, labelSelector, clock, log, idleMs = WATCH_IDLE_MS } = deps;
  const path = `/api/v1/namespaces/${namespace}/pods`;
  const pods = new Map<string, Pod>();
  const listeners = new Map<string, Set<() => void>>();
  const stop = new AbortController();
  const synced = Promise.withResolvers<void>();
  const backoff = createBackoff({ baseMs: 250, maxMs: 10_000, random: deps.random });
  let version: string | undefined;
  let lists = 0;
  let broken = false;
  let trouble: Failure | undefined;
  /** Said once, and not with each try. */
  let said: string | undefined;
  let heardAtMs = clock.now();
  let current = new AbortController();
  /** Nothing will be seen before somebody adds the rule. */
  let refused: KubeRefusal | undefined;
  synced.promise.catch(() => {});

  function set(name: string, pod: Pod | undefined): void {
    if (pod === undefined) pods.delete(name);
    else pods.set(name, essence(pod));
    for (const listener of listeners.get(name) ?? []) listener();
  }

  async function list(): Promise<void> {
    const found = new Map<string, Pod>();
    const listed = await listObjects<Pod>(client, { path, labelSelector, signal: stop.signal });
    for (const pod of listed.items) found.set(pod.metadata?.name ?? '', pod);
    // Only now: a list that broke off is read again, and not gone on from.
    version = listed.version;
    lists += 1;
    heardAtMs = clock.now();
    refused = undefined;
    trouble = undefined;
    for (const name of pods.keys()) if (!found.has(name)) set(name, undefined);
    for (const [name, pod] of found) set(name, pod);
    synced.resolve();
  }

  async function follow(from: string): Promise<void> {
    const query = {
      labelSelector,
      resourceVersion: from,
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(WATCH_SECONDS),
    };
    const onOpen = () => {
      if (broken) deps.onRestored?.();
      broken = false;
      refused = undefined;
      trouble = undefined;
    };
    const signal = AbortSignal.any([stop.signal, current.signal]);
    for await (const event of client.watch<Pod>(path, query, { signal, idleMs, onOpen })) {
      if (typeof event?.object !== 'object' || event.object === null) throw new WatchFailed('is no event');
      heardAtMs = clock.now();
      if (event.type === 'ERROR') throw watchError(event);
      const { name, resourceVersion } = event.object.metadata ?? {};
      if (resourceVersion !== undefined) version = resourceVersion;
      backoff.reset();
      said = undefined;
      if (event.type === 'BOOKMARK' || name === undefined) continue;
      const isThere = event.type !== 'DELETED' && isSelected(event.object, labelSelector);
      set(name, isThere ? event.object : undefined);
    }
  }

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      current = new AbortController();
      try {
        if (version === undefined) await list();
        const fromMs = clock.now();
        await follow(version ?? '');
        if (clock.now() - fromMs < SHORT_WATCH_MS) await pause(clock, SHORT_WATCH_MS, stop.signal);
      } catch (cause) {
        if (stop.signal.aborted) return;
        // Somebody asked for another.
        if (current.signal.aborted) continue;
        broken = true;
        if (cause instanceof Failure) trouble = cause;
        if (lacksRight(cause)) refuse(cause as KubeRefusal);
        const isGone = isRefused(cause, 410) || cause instanceof WatchExpired;
        // Whatever the server could not follow is read anew; a mere drop goes on from where it was.
        if (isGone || cause instanceof WatchFailed) version = undefined;
        const waitMs = isGone && backoff.tries === 0 ? 0 : backoff.next();
        if (!isGone && !lacksRight(cause) && String(cause) !== said)
          log('pod_watch_interrupted', { namespace, tries: backoff.tries, cause });
        said = String(cause);
        await pause(clock, waitMs, stop.signal).catch(() => {});
      }
    }
  }

  function refuse(cause: KubeRefusal): void {
    refused = cause;
    synced.reject(cause);
    for (const waiting of listeners.values()) for (const listener of waiting) listener();
  }

  function until<T>(
    name: string,
    see: (pod: Pod | undefined, gone: boolean) => T | undefined,
    signal: AbortSignal,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      let seen = false;
      const finish = (settle: () => void) => {
        signal.removeEventListener('abort', onAbort);
        const others = listeners.get(name);
        others?.delete(look);
        if (others?.size === 0) listeners.delete(name);
        settle();
      };
      const onAbort = () => finish(() => reject(signal.reason));
      const look = () => {
        const pod = pods.get(name);
        seen ||= pod !== undefined;
        const value = see(pod, seen && pod === undefined);
        if (value !== undefined) finish(() => resolve(value));
        else if (refused) finish(() => reject(refused));
      };
      if (signal.aborted) return reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      const known = listeners.get(name) ?? new Set();
      listeners.set(name, known.add(look));
      look();
    });
  }

  void run();
  return {
    synced: synced.promise,
    get: (name) => pods.get(name),
    all: () => pods.values(),
    until,
    get trouble() {
      return trouble;
    },
    silentMs: () => clock.now() - heardAtMs,
    refresh() {
      version = undefined;
      current.abort();
    },
    get lists() {
      return lists;
    },
    close: () => stop.abort(),
  };
}

/** What is read of a pod. Its command alone has 120 KB, and all that are still being deleted are kept here too. */
function essence({ metadata = {}, spec, status = {} }: Pod): Pod {
  const { name, uid, deletionTimestamp, finalizers } = metadata;
  return {
    metadata: { name, uid, deletionTimestamp, finalizers },
    spec: { nodeName: spec?.nodeName },
    status,
  };
}

/** The version that the watch began from is no longer kept. */
class WatchExpired extends Error {}
/** The server ended the watch with another error. */
class WatchFailed extends Error {}

function watchError(event: WatchEvent<Pod>): Error {
  const { code, message = '' } = event.object as Status;
  return code === 410 ? new WatchExpired(message) : new WatchFailed(message);
}
