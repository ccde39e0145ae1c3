import { RUNNER_GRACE_MS } from '../../shared/limits.ts';
import type { CancelTimer, Clock } from '../clock.ts';

/** A timer that rings so much later than it was set for was held up with its process, which heard nobody meanwhile. */
const STANDSTILL_MS = 500;

/**
 * When a runner last gave a sign, and when to look whether it has gone silent. A process that stood still, on a machine
 * that slept or starved, finds its timers before what came meanwhile: that is no silence, and the runner has its grace
 * again.
 */
export class RunnerWatch {
  readonly #clock: Clock;
  readonly #look: () => void;
  #lastSignMs = 0;
  #cancel: CancelTimer = () => {};

  constructor(clock: Clock, look: () => void) {
    this.#clock = clock;
    this.#look = look;
  }

  get silentMs(): number {
    return this.#clock.now() - this.#lastSignMs;
  }

  /** Returns when it was, by the agent's clock. */
  sign(): number {
    this.#lastSignMs = this.#clock.now();
    return this.#lastSignMs;
  }

  /** Looks once, in so long, and at no time that was set before. */
  lookIn(delayMs: number): void {
    this.#cancel();
    const dueMs = this.#clock.now() + delayMs;
    this.#cancel = this.#clock.after(delayMs, () => {
      if (this.#clock.now() - dueMs < STANDSTILL_MS) this.#look();
      else {
        this.sign();
        this.lookIn(RUNNER_GRACE_MS);
      }
    });
  }

  stop(): void {
    this.#cancel();
  }
}
