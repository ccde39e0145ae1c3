/** Bytes that are kept until the end, in one buffer that grows: however small the pieces, they cost what they hold. */
export class CollectedBytes {
  #buffer: Uint8Array = new Uint8Array(0);
  #length = 0;
  /** The first piece is kept as it came: most output is one. */
  #isOwn = false;

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  push(bytes: Uint8Array): void {
    if (this.#length === 0) {
      this.#buffer = bytes;
      this.#length = bytes.byteLength;
      return;
    }
    const length = this.#length + bytes.byteLength;
    if (!this.#isOwn || length > this.#buffer.byteLength) {
      const grown = new Uint8Array(Math.max(length, this.#length * 2));
      grown.set(this.bytes);
      this.#buffer = grown;
      this.#isOwn = true;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = length;
  }
}
