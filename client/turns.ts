/** Lets so many at once do something; the others wait, first come, first served. */
export type Turns = {
  /** Rejects with the signal's reason where that aborts before its turn has come. */
  take<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T>;
};

export function createTurns(max: number): Turns {
  const waiting = new Set<() => void>();
  let taken = 0;

  function turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const begin = () => {
        signal?.removeEventListener('abort', leave);
        waiting.delete(begin);
        taken += 1;
        resolve();
      };
      const leave = () => {
        waiting.delete(begin);
        reject(signal?.reason);
      };
      if (signal?.aborted) return leave();
      if (taken < max) return begin();
      waiting.add(begin);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }

  return {
    async take(signal, work) {
      await turn(signal);
      try {
        return await work();
      } finally {
        taken -= 1;
        const [next] = waiting;
        next?.();
      }
    },
  };
}
