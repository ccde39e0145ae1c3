import type { Clock } from '../../agent/clock.ts';

/** Timers that keep the process alive: a test waits for them. */
export const testClock: Clock = {
  wall: () => Date.now(),
  now: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};
