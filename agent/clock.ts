/** Ends a timer. Safe to call twice, or after it has run. */
export type CancelTimer = () => void;

/** Time as a dependency: tests put one in that moves only when told to. */
export type Clock = {
  /** Milliseconds of the wall clock: for what others see. */
  wall(): number;
  /** Milliseconds that only go forward, with fractions: for everything measured. */
  now(): number;
  after(delayMs: number, run: () => void): CancelTimer;
};

/** The machine's clock. Its timers keep no process alive. */
export const systemClock: Clock = {
  wall: () => Date.now(),
  now: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
