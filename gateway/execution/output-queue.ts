/** Chunks up to this size are copied together: a peer that sends byte by byte must not cost an object a byte. */
const SMALL_BYTES = 4_096;
const COALESCED_BYTES = 32_768;

export type OutputChunk = { channel: number; bytes: Uint8Array };
type Item = { channel: number; buffer: Uint8Array; length: number; own: boolean };

/** Output that waits for its reader, in the order in which it came. Holds no more than its stream's window. */
export class OutputQueue {
  #items: Item[] = [];
  #head = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  push(channel: number, bytes: Uint8Array): void {
    this.#bytes += bytes.byteLength;
    if (bytes.byteLength > SMALL_BYTES) {
      this.#items.push({ channel, buffer: bytes, length: bytes.byteLength, own: false });
      return;
    }
    const last = this.#items.length > this.#head ? this.#items.at(-1) : undefined;
    if (last?.own && last.channel === channel && last.length + bytes.byteLength <= COALESCED_BYTES) {
      append(last, bytes);
      return;
    }
    // A copy, since a few bytes would keep the whole buffer alive that the socket read them into.
    this.#items.push({ channel, buffer: bytes.slice(), length: bytes.byteLength, own: true });
  }

  shift(): OutputChunk | undefined {
    const item = this.#items[this.#head];
    if (!item) return undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    this.#bytes -= item.length;
    return { channel: item.channel, bytes: item.buffer.subarray(0, item.length) };
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
    this.#bytes = 0;
  }
}

function append(item: Item, bytes: Uint8Array): void {
  const length = item.length + bytes.byteLength;
  if (length > item.buffer.byteLength) {
    const grown = new Uint8Array(Math.min(COALESCED_BYTES, Math.max(length, item.buffer.byteLength * 2)));
    grown.set(item.buffer.subarray(0, item.length));
    item.buffer = grown;
  }
  item.buffer.set(bytes, item.length);
  item.length = length;
}
