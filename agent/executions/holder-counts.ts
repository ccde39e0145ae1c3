import { Failure } from '../../shared/errors.ts';

/** Executions under way for each holder of a key, whatever end users it names. */
export type HolderCounts = {
  /** Throws `rate_limited` where one more would be above the ceiling; null: there is none. */
  require(holder: string, ceiling: number | null): void;
  enter(holder: string): void;
  leave(holder: string): void;
};

export function createHolderCounts(): HolderCounts {
  const counts = new Map<string, number>();
  return {
    require(holder, ceiling) {
      if (ceiling === null || (counts.get(holder) ?? 0) < ceiling) return;
      throw new Failure('rate_limited', `At most ${ceiling} executions of this key run at once.`, {
        retryAfterMs: 1_000,
      });
    },
    enter(holder) {
      counts.set(holder, (counts.get(holder) ?? 0) + 1);
    },
    leave(holder) {
      const left = (counts.get(holder) ?? 1) - 1;
      if (left === 0) counts.delete(holder);
      else counts.set(holder, left);
    },
  };
}
