import { Failure } from '../shared/errors.ts';

const RETRY_MS = 1_000;
/** What one owner may hold of a budget at most: one part in so many. */
export const OWNER_SHARE = 4;

export type Reservation = {
  /** Takes more. False when it would go over the owner's share or the whole. */
  grow(bytes: number): 'taken' | 'share' | 'full';
  /** Gives everything back. Idempotent. */
  release(): void;
};

/** Bytes that may be held at once, in all and by one owner, so that no caller takes the memory of the others. */
export class MemoryBudget {
  readonly #maxBytes: number;
  readonly #maxOwnerBytes: number;
  readonly #owners = new Map<string, number>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
    this.#maxOwnerBytes = Math.floor(maxBytes / OWNER_SHARE);
  }

  get bytes(): number {
    return this.#bytes;
  }

  reserve(owner: string): Reservation {
    let held = 0;
    return {
      grow: (bytes) => {
        const owned = (this.#owners.get(owner) ?? 0) + bytes;
        if (owned > this.#maxOwnerBytes) return 'share';
        if (this.#bytes + bytes > this.#maxBytes) return 'full';
        this.#bytes += bytes;
        this.#owners.set(owner, owned);
        held += bytes;
        return 'taken';
      },
      release: () => {
        this.#bytes -= held;
        const left = (this.#owners.get(owner) ?? 0) - held;
        if (left > 0) this.#owners.set(owner, left);
        else this.#owners.delete(owner);
        held = 0;
      },
    };
  }
}

/** Why there is no memory for output. */
export function noMemory(verdict: 'share' | 'full'): Failure {
  const options = { retryAfterMs: RETRY_MS };
  return verdict === 'share'
    ? new Failure('rate_limited', 'The output of this key takes up its share of memory.', options)
    : new Failure('at_capacity', 'The gateway has no memory left for output.', options);
}
