/** Executions that wait for a sandbox, in the order of asking. */
export type WaitingLine<T> = {
  join(principal: string, signal: AbortSignal, onLeave: () => void): Promise<T>;
  /** Serves the first that `mayHave`. `give` makes what it gets. */
  serve(mayHave: (principal: string) => boolean, give: (principal: string) => T): void;
  refuseAll(reason: Error): void;
  readonly size: number;
};

type Waiter<T> = { principal: string; resolve(value: T): void; reject(reason: unknown): void };

export function createWaitingLine<T>(): WaitingLine<T> {
  const waiters = new Set<Waiter<T>>();

  return {
    join(principal, signal, onLeave) {
      if (signal.aborted) return Promise.reject(signal.reason);
      const { promise, resolve, reject } = Promise.withResolvers<T>();
      const waiter: Waiter<T> = { principal, resolve, reject };
      const onAbort = () => {
        waiters.delete(waiter);
        reject(signal.reason);
        onLeave();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const stopListening = () => signal.removeEventListener('abort', onAbort);
      promise.then(stopListening, stopListening);
      waiters.add(waiter);
      return promise;
    },
    serve(mayHave, give) {
      for (const waiter of waiters) {
        if (!mayHave(waiter.principal)) continue;
        waiters.delete(waiter);
        waiter.resolve(give(waiter.principal));
        return;
      }
    },
    refuseAll(reason) {
      const refused = [...waiters];
      waiters.clear();
      for (const waiter of refused) waiter.reject(reason);
    },
    get size() {
      return waiters.size;
    },
  };
}
