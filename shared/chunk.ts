/** Chunks up to this size are copied together: a peer that sends byte by byte must not cost an object a byte. */
export const SMALL_BYTES = 4_096;
const COALESCED_BYTES = 32_768;

/** Bytes that wait. Those are copied that would keep a buffer alive which is more than twice as large: one that a socket was read into. */
export class Chunk {
  #buffer: Uint8Array;
  #length: number;
  readonly #isOwn: boolean;

  constructor(bytes: Uint8Array) {
    this.#isOwn = bytes.byteLength <= SMALL_BYTES || bytes.byteLength * 2 < bytes.buffer.byteLength;
    // `slice` of a Buffer, which is what sockets give, copies nothing.
    this.#buffer = this.#isOwn ? new Uint8Array(bytes) : bytes;
    this.#length = bytes.byteLength;
  }

  get length(): number {
    return this.#length;
  }

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Takes small bytes in, or returns false: then they need a chunk of their own. */
  append(bytes: Uint8Array): boolean {
    const length = this.#length + bytes.byteLength;
    if (!this.#isOwn || bytes.byteLength > SMALL_BYTES || length > COALESCED_BYTES) return false;
    if (length > this.#buffer.byteLength) {
      // Views that were given out keep the old buffer: what is written once is never written again.
      const grown = new Uint8Array(Math.min(COALESCED_BYTES, Math.max(length, this.#buffer.byteLength * 2)));
      grown.set(this.bytes);
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = length;
    return true;
  }
}
