export type BackoffOptions = {
  baseMs: number;
  maxMs: number;
  /** 0 ≤ n < 1. */
  random: () => number;
};

/** Exponential waits with full jitter: anywhere between 0 and `baseMs × 2^n`, at most `maxMs`. */
export type Backoff = {
  /** The wait before the next try. Each call doubles the bound of the one after. */
  next(): number;
  /** As if so many tries had been made, none unless given. */
  reset(tries?: number): void;
  /** Tries since the last reset. */
  readonly tries: number;
};

/** Without jitter, what failed together tries again together. */
export function createBackoff({ baseMs, maxMs, random }: BackoffOptions): Backoff {
  let tries = 0;
  return {
    next() {
      const bound = Math.min(maxMs, baseMs * 2 ** Math.min(tries, 30));
      tries += 1;
      return random() * bound;
    },
    reset(to = 0) {
      tries = to;
    },
    get tries() {
      return tries;
    },
  };
}
