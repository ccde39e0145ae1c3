import { Failure } from '../../shared/errors.ts';

/** Downloads at once of one key's holder, whatever end users it names: each holds a file open, and several fit one connection. */
export const MAX_DOWNLOADS_PER_HOLDER = 256;
const RETRY_MS = 1_000;

/** Counts downloads. */
export class Downloads {
  readonly #open = new Map<string, number>();

  /** Returns how to end it, which does nothing the second time. Throws `rate_limited`. */
  begin(holder: string): () => void {
    const open = this.#open.get(holder) ?? 0;
    if (open >= MAX_DOWNLOADS_PER_HOLDER) {
      const message = `Your key allows ${MAX_DOWNLOADS_PER_HOLDER} downloads at once; take or leave some of them first.`;
      throw new Failure('rate_limited', message, { retryAfterMs: RETRY_MS });
    }
    this.#open.set(holder, open + 1);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const left = (this.#open.get(holder) ?? 0) - 1;
      if (left > 0) this.#open.set(holder, left);
      else this.#open.delete(holder);
    };
  }
}
