/** Who wants to be told of one thing that happens again and again. */
export type Listeners = {
  /** Returns how to stop. */
  add(listener: () => void): () => void;
  tell(): void;
};

export function createListeners(): Listeners {
  const listeners = new Set<() => void>();
  return {
    add(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    tell() {
      for (const listener of [...listeners]) listener();
    },
  };
}
