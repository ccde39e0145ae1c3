import type { Timers } from '../gateway-deps.ts';

/** Questions of one link whose answers carry their reference. An answer of null: none in time, or the link is gone. */
export class RefAsks<Answer extends { ref: number }> {
  readonly #timers: Timers;
  readonly #pending = new Map<number, (answer: Answer | null) => void>();
  #lastRef = 0;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  /** `send` gets the reference that the answer will carry. */
  ask(timeoutMs: number, send: (ref: number) => void): Promise<Answer | null> {
    const ref = ++this.#lastRef;
    return new Promise((resolve) => {
      const timer = this.#timers.setTimeout(() => settle(null), timeoutMs);
      const settle = (answer: Answer | null) => {
        this.#timers.clearTimeout(timer);
        this.#pending.delete(ref);
        resolve(answer);
      };
      this.#pending.set(ref, settle);
      send(ref);
    });
  }

  answer(body: Answer): void {
    this.#pending.get(body.ref)?.(body);
  }

  close(): void {
    for (const settle of [...this.#pending.values()]) settle(null);
  }
}
