/** A machine that is only busy is never away for so long. */
export const STANDSTILL_MS = 5_000;

/** When the whole machine stood still, this process too: what was due then is late for no fault of Podgate's. */
export type StandstillWatch = {
  /** To be called every second. */
  tick(): void;
  /** Whether it stood still between two moments. */
  overlaps(fromMs: number, toMs: number): boolean;
  line(): string;
};

export function watchStandstills(now: () => number): StandstillWatch {
  const found: { fromMs: number; toMs: number }[] = [];
  let lastMs = now();

  function tick(): void {
    const nowMs = now();
    if (nowMs - lastMs > STANDSTILL_MS) found.push({ fromMs: lastMs, toMs: nowMs });
    lastMs = nowMs;
  }

  return {
    tick,
    overlaps(from, to) {
      // Of all that wakes up behind one, the tick may not be the first.
      tick();
      return found.some(({ fromMs, toMs }) => fromMs <= to && toMs >= from);
    },
    line() {
      const longestMs = Math.max(0, ...found.map(({ fromMs, toMs }) => toMs - fromMs));
      return `stood still        ${found.length} times, ${Math.round(longestMs)} ms at most`;
    },
  };
}
