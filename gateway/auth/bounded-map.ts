/** A map of at most `maxEntries`: the entry that was used longest ago makes room. */
export type BoundedMap<K, V> = {
  readonly size: number;
  get(key: K): V | undefined;
  set(key: K, value: V): void;
  delete(key: K): void;
};

export function createBoundedMap<K, V>(maxEntries: number): BoundedMap<K, V> {
  // A Map iterates in order of insertion, so taking an entry out and putting it back makes it the newest.
  const entries = new Map<K, V>();
  return {
    get size() {
      return entries.size;
    },
    get(key) {
      const value = entries.get(key);
      if (value !== undefined) {
        entries.delete(key);
        entries.set(key, value);
      }
      return value;
    },
    set(key, value) {
      entries.delete(key);
      entries.set(key, value);
      if (entries.size > maxEntries) entries.delete(entries.keys().next().value as K);
    },
    delete(key) {
      entries.delete(key);
    },
  };
}
