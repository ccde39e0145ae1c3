/** Output that an agent keeps over all its executions, for readers that may come: MAX_RETAINED_BYTES of them unless told. */
export const MAX_RETAINED_BYTES = 67_108_864;

/** Kept output of an execution that has ended. */
export type Retained = {
  /** Whether somebody reads it now. */
  readonly inUse: boolean;
  /** Drops its bytes: a later reader is told of the gap. */
  drop(): void;
};

/**
 * The memory that kept output may take. What has ended goes first, the oldest before the rest; what runs keeps only what
 * its readers have not acknowledged once there is no room.
 */
export class Retention {
  readonly #maxBytes: number;
  readonly #ended = new Set<Retained>();
  #bytes = 0;

  constructor(maxBytes: number = MAX_RETAINED_BYTES) {
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return this.#bytes > this.#maxBytes;
  }

  charge(bytes: number): void {
    this.#bytes += bytes;
    if (bytes <= 0 || !this.isFull) return;
    for (const each of this.#ended) {
      if (!this.isFull) return;
      if (each.inUse) continue;
      this.#ended.delete(each);
      each.drop();
    }
  }

  /** May be dropped from now on. */
  ended(retained: Retained): void {
    this.#ended.add(retained);
  }

  gone(retained: Retained): void {
    this.#ended.delete(retained);
  }
}
