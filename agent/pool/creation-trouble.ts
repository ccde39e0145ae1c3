import { type ErrorCode, Failure } from '../../shared/errors.ts';
import { createBackoff } from '../backoff.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { PoolBounds } from './bounds.ts';

/** Why a template cannot have all the sandboxes it wants now. */
export type Trouble = { readonly code: ErrorCode; readonly detail: string };

/**
 * Failed creations: said once, and not tried again before a wait that doubles. One success ends the wait; the trouble is
 * over when the pool is as full as it wants to be, or creations have gone well for a while.
 */
export type CreationTrouble = {
  readonly current: Trouble | null;
  /** The wait is not over. */
  readonly waiting: boolean;
  /** The last creation failed: one is tried for all. */
  readonly failing: boolean;
  failed(failure: Failure): void;
  /** A creation succeeded, or a sandbox is reached again. */
  succeeded(): void;
  /** The pool has what it wants. */
  filled(): void;
  /** What was in the way may be gone: the wait is over. */
  retryNow(): void;
  /** The definition is another one now. */
  clear(): void;
  /** Nothing is tried any more. Nor is anything over: nobody is told so. */
  close(): void;
};

export type CreationTroubleDeps = {
  clock: Clock;
  random: () => number;
  log: Log;
  bounds: PoolBounds;
  template: string;
  retry: () => void;
};

export function createCreationTrouble(deps: CreationTroubleDeps): CreationTrouble {
  const { clock, random, log, bounds, template, retry } = deps;
  const backoff = createBackoff({ baseMs: bounds.retryBaseMs, maxMs: bounds.retryMaxMs, random });
  let current: Trouble | null = null;
  /** The first success since the last failure. A time in which nothing was tried says nothing. */
  let wellSinceMs: number | undefined;
  let cancelRetry: (() => void) | undefined;

  function endWait(): void {
    cancelRetry?.();
    cancelRetry = undefined;
  }

  function clear(): void {
    if (current) log('pool_recovered', { template });
    current = null;
    wellSinceMs = undefined;
    backoff.reset();
    endWait();
  }

  return {
    get current() {
      return current;
    },
    get waiting() {
      return cancelRetry !== undefined;
    },
    get failing() {
      return backoff.tries > 0;
    },
    failed({ code, detail, cause }) {
      if (current?.code !== code || current.detail !== detail)
        log('pool_trouble', { template, code, detail, cause });
      current = { code, detail };
      wellSinceMs = undefined;
      // Creations that were under way together fail together, and count once.
      cancelRetry ??= clock.after(backoff.next(), () => {
        cancelRetry = undefined;
        retry();
      });
    },
    succeeded() {
      if (!current) return;
      backoff.reset();
      endWait();
      wellSinceMs ??= clock.now();
      if (clock.now() - wellSinceMs >= bounds.steadyMs) clear();
    },
    filled() {
      if (current && backoff.tries === 0) clear();
    },
    retryNow() {
      if (cancelRetry === undefined) return;
      endWait();
      retry();
    },
    clear,
    close: endWait,
  };
}

/** A sandbox that was lost soon after its making, as a reason not to make the next one at once. */
export function shortLived(cause: Failure): Failure {
  return new Failure('backend_unavailable', 'Sandboxes end soon after they are made.', { cause });
}

/** A sandbox that was lost while it was made, as a reason why there is none: nothing was asked of it yet. */
export function lostInMaking(cause: Failure): Failure {
  if (cause.code !== 'sandbox_lost') return cause;
  return new Failure('backend_unavailable', cause.detail, { cause });
}
