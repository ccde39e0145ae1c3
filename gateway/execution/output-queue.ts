import { Chunk } from '../../shared/chunk.ts';

export type OutputChunk = { channel: number; bytes: Uint8Array };
/** Bytes of a channel that are not kept any more. */
export type OutputGap = { channel: number; from: number; to: number };
type Item = { channel: number; chunk: Chunk } | OutputGap;

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
    if (last?.channel === channel && 'chunk' in last && last.chunk.append(bytes)) return;
    this.#items.push({ channel, chunk: new Chunk(bytes) });
  }

  pushGap(gap: OutputGap): void {
    this.#items.push(gap);
  }

  shift(): OutputChunk | OutputGap | undefined {
    const item = this.#items[this.#head];
    if (!item) return undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    if (!('chunk' in item)) return item;
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
