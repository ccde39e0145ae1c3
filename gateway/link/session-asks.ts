import type { FromAgent } from '../../shared/messages.ts';
import type { Timers } from '../gateway-deps.ts';

export type SessionAnswer = FromAgent['SESSION'];

/** SESSION questions of one link that wait for their answers. An answer of null: none in time, or the link is gone. */
export class SessionAsks {
  readonly #timers: Timers;
  readonly #pending = new Map<number, (answer: SessionAnswer | null) => void>();
  #lastRef = 0;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  /** `send` gets the reference that the answer will carry. */
  ask(timeoutMs: number, send: (ref: number) => void): Promise<SessionAnswer | null> {
    const ref = ++this.#lastRef;
    return new Promise((resolve) => {
      const timer = this.#timers.setTimeout(() => settle(null), timeoutMs);
      const settle = (answer: SessionAnswer | null) => {
        this.#timers.clearTimeout(timer);
        this.#pending.delete(ref);
        resolve(answer);
      };
      this.#pending.set(ref, settle);
      send(ref);
    });
  }

  answer(body: SessionAnswer): void {
    this.#pending.get(body.ref)?.(body);
  }

  close(): void {
    for (const settle of [...this.#pending.values()]) settle(null);
  }
}
