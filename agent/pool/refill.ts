/** What a refill is reckoned from. Numbers are sandboxes. */
export type RefillState = {
  readonly min: number;
  readonly max: number;
  /** All there are, in every state. */
  readonly all: number;
  /** Waiting, taken, or coming back from either. */
  readonly serving: number;
  /** Waiting, and anybody's. */
  readonly free: number;
  /** Creating or connecting. */
  readonly onTheirWay: number;
  /** Their streams are being replaced: mostly they are back sooner than others could be made. */
  readonly unreached: number;
  /** Executions that wait for one. */
  readonly waiting: number;
  /** The last creation failed. */
  readonly failing: boolean;
  readonly maxCreating: number;
};

/** Whether nothing is missing, and how many to begin now. */
export function planRefill(state: RefillState): { filled: boolean; begin: number } {
  const { min, max, all, serving, free, onTheirWay, unreached, waiting, failing, maxCreating } = state;
  const missing = min + waiting - free - unreached;
  const room = max - all;
  // After a failure one is made for all, wanted or not: without it nobody would learn that the trouble is over.
  const wanted = failing ? Math.max(missing, 1) : missing;
  const together = failing ? 1 : maxCreating;
  const begin = Math.min(wanted - onTheirWay, room, together - onTheirWay);
  return { filled: missing <= 0 || serving >= max, begin: Math.max(0, begin) };
}
