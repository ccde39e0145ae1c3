import type { ErrorCode, Failure } from '../../shared/errors.ts';
import { createBackoff } from '../backoff.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { PoolBounds } from './bounds.ts';

/** Why a template cannot have sandboxes now. */
export type Trouble = { readonly code: ErrorCode; readonly detail: string };

/** Failed creations: said once, and not tried again before a wait that doubles. */
export type CreationTrouble = {
  readonly current: Trouble | null;
  /** The wait is not over. */
  readonly waiting: boolean;
  /** The last creation failed: one is tried for all. */
  readonly failing: boolean;
  failed(failure: Failure): void;
  /** A creation succeeded, or the definition is another one now. */
  clear(): void;
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
  let cancelRetry: (() => void) | undefined;

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
      cancelRetry?.();
      cancelRetry = clock.after(backoff.next(), () => {
        cancelRetry = undefined;
        retry();
      });
    },
    clear() {
      if (current) log('pool_recovered', { template });
      current = null;
      backoff.reset();
      cancelRetry?.();
      cancelRetry = undefined;
    },
  };
}
