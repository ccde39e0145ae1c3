import type { FromAgent } from '../../shared/messages.ts';
import type { Timers } from '../gateway-deps.ts';
import { RefAsks } from './ref-asks.ts';

export type StatusAnswer = FromAgent['STATUS'];

/** Of the STATUS that answers CANCEL, which carries no reference. */
const NO_REF = 0;

/** What waits for STATUS on one link. An answer of null: none in time, or the link is gone. */
export class StatusAsks {
  readonly #timers: Timers;
  readonly #asked: RefAsks<StatusAnswer>;
  /** By execution, the first asked first. */
  readonly #ends = new Map<string, Set<(answer: StatusAnswer | null) => void>>();

  constructor(timers: Timers) {
    this.#timers = timers;
    this.#asked = new RefAsks(timers);
  }

  /** `send` gets the reference that the answer will carry. */
  ask(timeoutMs: number, send: (ref: number) => void): Promise<StatusAnswer | null> {
    return this.#asked.ask(timeoutMs, send);
  }

  /** The answer to a CANCEL that `send` sends. */
  askEnd(executionId: string, timeoutMs: number, send: () => void): Promise<StatusAnswer | null> {
    return new Promise((resolve) => {
      const waiting = this.#ends.get(executionId) ?? new Set();
      this.#ends.set(executionId, waiting);
      const timer = this.#timers.setTimeout(() => settle(null), timeoutMs);
      const settle = (answer: StatusAnswer | null) => {
        this.#timers.clearTimeout(timer);
        waiting.delete(settle);
        if (waiting.size === 0) this.#ends.delete(executionId);
        resolve(answer);
      };
      waiting.add(settle);
      send();
    });
  }

  answer(body: StatusAnswer): void {
    if (body.ref !== NO_REF) this.#asked.answer(body);
    else this.#ends.get(body.execution_id)?.values().next().value?.(body);
  }

  close(): void {
    this.#asked.close();
    for (const waiting of [...this.#ends.values()]) for (const settle of [...waiting]) settle(null);
  }
}
