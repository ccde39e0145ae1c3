import type { MemoryBudget, MemoryHolder, Reservation } from '../memory-budget.ts';

/** Memory for the output of one execution: until its reader has everything, or the answer made of it is written. */
export class OutputMemory {
  readonly #reservation: Reservation;
  #isHeld = false;
  #isOver = false;

  constructor(budget: MemoryBudget, holder: MemoryHolder) {
    this.#reservation = budget.reserve(holder);
  }

  grow(bytes: number): ReturnType<Reservation['grow']> {
    return this.#reservation.grow(bytes);
  }

  /** What was collected outlives its source, until `letGo`. */
  hold(): void {
    this.#isHeld = true;
  }

  /** Nothing is made of it any more, or what was made is written. Idempotent. */
  letGo(): void {
    this.#isHeld = false;
    if (this.#isOver) this.#reservation.release();
  }

  /** Its reader has everything, or is gone. Idempotent. */
  end(): void {
    this.#isOver = true;
    if (!this.#isHeld) this.#reservation.release();
  }
}
