import { Chunk } from './chunk.ts';

export type OutputChunk = { channel: number; bytes: Uint8Array };
type Item = { channel: number; chunk: Chunk };

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
    const last = this.#items.length > this.#head ? this.#items.at(-1) : undefined;
    if (last?.channel === channel && last.chunk.append(bytes)) return;
    this.#items.push({ channel, chunk: new Chunk(bytes) });
  }

  shift(): OutputChunk | undefined {
    const item = this.#items[this.#head];
    if (!item) return undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    const { bytes } = item.chunk;
    this.#bytes -= bytes.byteLength;
    return { channel: item.channel, bytes };
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
    this.#bytes = 0;
  }
}
