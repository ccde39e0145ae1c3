import { Failure } from '../shared/errors.ts';
import type { Caller } from './auth/caller.ts';

const RETRY_MS = 1_000;
/** What the holder of a key may hold of a budget at most: one part in so many. */
export const HOLDER_SHARE = 4;

/** Whose bytes they are. */
export type MemoryHolder = Pick<Caller, 'tenant' | 'holder'>;

export type Reservation = {
  /** Takes more, unless it would go over the share of the key's holder or of its tenant, or over the whole. */
  grow(bytes: number): 'taken' | 'share' | 'full';
  /** Gives everything back. Idempotent. */
  release(): void;
};

/** Bytes that may be held at once: in all, by one tenant and by one holder, so that nobody takes the memory of the others. */
export class MemoryBudget {
  readonly #maxBytes: number;
  readonly #maxTenantBytes: number;
  readonly #maxHolderBytes: number;
  readonly #tenants = new Map<string, number>();
  readonly #holders = new Map<string, number>();
  #bytes = 0;

  constructor(maxBytes: number, maxTenantBytes = maxBytes) {
    this.#maxBytes = maxBytes;
    this.#maxTenantBytes = maxTenantBytes;
    this.#maxHolderBytes = Math.floor(maxBytes / HOLDER_SHARE);
  }

  get bytes(): number {
    return this.#bytes;
  }

  reserve({ tenant, holder }: MemoryHolder): Reservation {
    let held = 0;
    const add = (bytes: number) => {
      this.#bytes += bytes;
      held += bytes;
      count(this.#tenants, tenant, bytes);
      count(this.#holders, holder, bytes);
    };
    return {
      grow: (bytes) => {
        if ((this.#holders.get(holder) ?? 0) + bytes > this.#maxHolderBytes) return 'share';
        if ((this.#tenants.get(tenant) ?? 0) + bytes > this.#maxTenantBytes) return 'share';
        if (this.#bytes + bytes > this.#maxBytes) return 'full';
        add(bytes);
        return 'taken';
      },
      release: () => add(-held),
    };
  }
}

function count(counts: Map<string, number>, name: string, change: number): void {
  const left = (counts.get(name) ?? 0) + change;
  if (left > 0) counts.set(name, left);
  else counts.delete(name);
}

/** Why there is no memory for output. */
export function noMemory(verdict: 'share' | 'full'): Failure {
  const options = { retryAfterMs: RETRY_MS };
  return verdict === 'share'
    ? new Failure(
        'rate_limited',
        'The output of this key, or of its tenant, takes up its share of memory.',
        options,
      )
    : new Failure('at_capacity', 'The gateway has no memory left for output.', options);
}
