import { Chunk } from '../../shared/chunk.ts';
import { Queue } from '../../shared/queue.ts';

export type OutputChunk = { channel: number; bytes: Uint8Array };
/** Bytes of a channel that are not kept any more. */
export type OutputGap = { channel: number; from: number; to: number };
type Item = { channel: number; chunk: Chunk } | OutputGap;

/** Beyond so many pieces a channel's bytes join its own last ones, across what another channel said in between. */
export const MAX_PIECES = 1_024;
/** Gaps that may wait. Bytes lie between those of an agent that can count: its window holds far fewer. */
export const MAX_WAITING_GAPS = 1_024;

/**
 * Output that waits for its reader, in the order in which it came. Holds no more than its stream's window, and costs about
 * what it holds, however small the pieces are and however two channels take turns.
 */
export class OutputQueue {
  readonly #items = new Queue<Item>();
  #bytes = 0;
  #gaps = 0;
  /** The end of each channel, as long as it waits and no gap is behind it. */
  readonly #ends = new Map<number, Chunk>();

  get bytes(): number {
    return this.#bytes;
  }

  push(channel: number, bytes: Uint8Array): void {
    this.#bytes += bytes.byteLength;
    const end = this.#ends.get(channel);
    if (end && (this.#isCrowded || this.#isLast(end)) && end.append(bytes)) return;
    const chunk = new Chunk(bytes);
    this.#ends.set(channel, chunk);
    this.#items.push({ channel, chunk });
  }

  /** False where too many wait already. */
  pushGap(gap: OutputGap): boolean {
    if (this.#gaps >= MAX_WAITING_GAPS) return false;
    this.#gaps += 1;
    this.#ends.delete(gap.channel);
    this.#items.push(gap);
    return true;
  }

  shift(): OutputChunk | OutputGap | undefined {
    const item = this.#items.shift();
    if (!item) return undefined;
    if (!('chunk' in item)) {
      this.#gaps -= 1;
      return item;
    }
    if (this.#ends.get(item.channel) === item.chunk) this.#ends.delete(item.channel);
    const { bytes } = item.chunk;
    this.#bytes -= bytes.byteLength;
    return { channel: item.channel, bytes };
  }

  clear(): void {
    this.#items.clear();
    this.#bytes = 0;
    this.#gaps = 0;
    this.#ends.clear();
  }

  get #isCrowded(): boolean {
    return this.#items.length >= MAX_PIECES;
  }

  #isLast(chunk: Chunk): boolean {
    const { last } = this.#items;
    return last !== undefined && 'chunk' in last && last.chunk === chunk;
  }
}
