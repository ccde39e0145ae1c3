import type { Clock } from './clock.ts';

/** A signal that aborts by itself after a while; disposing ends its timer. */
export type Deadline = Disposable & { readonly signal: AbortSignal };

/** Like `AbortSignal.timeout`, on the agent's clock, and also when one of `also` aborts. */
export function createDeadline(
  clock: Clock,
  delayMs: number,
  /** Made only when it is needed: an Error costs its stack. */
  reason: () => Error,
  also?: AbortSignal,
): Deadline {
  const controller = new AbortController();
  const cancel = clock.after(delayMs, () => controller.abort(reason()));
  const signal = also ? AbortSignal.any([controller.signal, also]) : controller.signal;
  return { signal, [Symbol.dispose]: cancel };
}

/** Settles like `promise`, or rejects with the signal's reason as soon as it aborts. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {});
    return Promise.reject(signal.reason);
  }
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    promise
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', onAbort))
      .catch(() => {});
  });
}
