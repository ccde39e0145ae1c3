import type { FromAgent } from '../../shared/messages.ts';
import type { Timers } from '../gateway-deps.ts';

export type StatusAnswer = FromAgent['STATUS'];

type Ask = { executionId: string; settle: (answer: StatusAnswer | null) => void };

/** STATUS questions of one link that wait for their answers. An answer of null: none in time, or the link is gone. */
export class StatusAsks {
  readonly #timers: Timers;
  readonly #pending = new Map<number, Ask>();
  #lastRef = 0;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  /** `send` gets the reference that the answer will carry. */
  ask(executionId: string, timeoutMs: number, send: (ref: number) => void): Promise<StatusAnswer | null> {
    const ref = ++this.#lastRef;
    return new Promise((resolve) => {
      const timer = this.#timers.setTimeout(() => settle(null), timeoutMs);
      const settle = (answer: StatusAnswer | null) => {
        this.#timers.clearTimeout(timer);
        this.#pending.delete(ref);
        resolve(answer);
      };
      this.#pending.set(ref, { executionId, settle });
      send(ref);
    });
  }

  /** By reference, else by execution: CANCEL on the link carries no reference and is answered by STATUS too. */
  answer(body: StatusAnswer): void {
    const asked = this.#pending.get(body.ref);
    if (asked?.executionId === body.execution_id) {
      asked.settle(body);
      return;
    }
    for (const ask of this.#pending.values()) {
      if (ask.executionId !== body.execution_id) continue;
      ask.settle(body);
      return;
    }
  }

  close(): void {
    for (const ask of [...this.#pending.values()]) ask.settle(null);
  }
}
