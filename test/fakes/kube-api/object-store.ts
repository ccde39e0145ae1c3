import { randomUUID } from 'node:crypto';

export type KubeObject = {
  apiVersion?: string;
  kind?: string;
  metadata: {
    name: string;
    namespace?: string;
    uid: string;
    resourceVersion: string;
    creationTimestamp: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: { uid: string; kind: string; name: string }[];
  };
  // biome-ignore lint/suspicious/noExplicitAny: a store of anything, as the server's is
  [member: string]: any;
};

export type StoreEvent = { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: KubeObject; version: number };

/** One kind's objects with the history that watches are served from. Objects are never changed in place. */
export type ObjectStore = {
  readonly version: number;
  /** Versions at or below it are forgotten: a watch that wants them is told 410. */
  readonly compactedTo: number;
  get(namespace: string, name: string): KubeObject | undefined;
  list(namespace: string, selects?: (object: KubeObject) => boolean): KubeObject[];
  add(
    object: Omit<KubeObject, 'metadata'> & { metadata: Partial<KubeObject['metadata']> & { name: string } },
  ): KubeObject;
  put(object: KubeObject): KubeObject;
  remove(namespace: string, name: string): KubeObject | undefined;
  /** Events after `version`, then those to come, until `stop`. */
  subscribe(version: number, onEvent: (event: StoreEvent) => void): () => void;
  compact(): void;
};

/** Shared by all stores of one server, as etcd's revision is. */
export type Revision = { next(): number; readonly current: number };

export function createRevision(): Revision {
  let current = 1000;
  return {
    next() {
      current += 1;
      return current;
    },
    get current() {
      return current;
    },
  };
}

export function createObjectStore(revision: Revision): ObjectStore {
  const objects = new Map<string, KubeObject>();
  const listeners = new Set<(event: StoreEvent) => void>();
  let history: StoreEvent[] = [];
  let compactedTo = 0;

  const key = (namespace: string | undefined, name: string) => `${namespace ?? ''}/${name}`;

  function record(type: StoreEvent['type'], object: KubeObject): KubeObject {
    const version = revision.next();
    const stamped = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    const event = { type, object: stamped, version };
    history.push(event);
    const { namespace, name } = object.metadata;
    if (type === 'DELETED') objects.delete(key(namespace, name));
    else objects.set(key(namespace, name), stamped);
    for (const listener of [...listeners]) listener(event);
    return stamped;
  }

  return {
    get version() {
      return revision.current;
    },
    get compactedTo() {
      return compactedTo;
    },
    get: (namespace, name) => objects.get(key(namespace, name)),
    list: (namespace, selects = () => true) =>
      [...objects.values()].filter((object) => object.metadata.namespace === namespace && selects(object)),
    add(object) {
      const metadata = {
        ...object.metadata,
        uid: randomUUID(),
        resourceVersion: '',
        creationTimestamp: new Date().toISOString().replace(/\.\d+/, ''),
      };
      return record('ADDED', { ...object, metadata } as KubeObject);
    },
    put: (object) => record('MODIFIED', object),
    remove(namespace, name) {
      const object = objects.get(key(namespace, name));
      return object && record('DELETED', object);
    },
    subscribe(version, onEvent) {
      for (const event of history) if (event.version > version) onEvent(event);
      listeners.add(onEvent);
      return () => listeners.delete(onEvent);
    },
    compact() {
      history = [];
      compactedTo = revision.current;
    },
  };
}

/** `a=b,c!=d` as a predicate on labels. */
export function selectorOf(text: string | null): (object: KubeObject) => boolean {
  const wanted = (text ?? '').split(',').filter(Boolean);
  return ({ metadata: { labels = {} } }) =>
    wanted.every((part) => {
      const [name = '', value] = part.split(/!?=/);
      return part.includes('!=') ? labels[name] !== value : labels[name] === value;
    });
}
