import type { OutputChannel } from '../runner/execution-stream.ts';

/** Chunks up to this size are copied together: a program that writes byte by byte must not cost an object a byte. */
const SMALL_BYTES = 4_096;
const BLOCK_BYTES = 32_768;
/** What a block and each of its runs cost beside their bytes. */
const BLOCK_OVERHEAD_BYTES = 128;
const RUN_OVERHEAD_BYTES = 8;

/** Consecutive output: bytes of whatever channels in one buffer, and runs that say whose they are. */
export class OutputBlock {
  /** Its place among all blocks of an execution. */
  readonly order: number;
  /** Of the same list. */
  next: OutputBlock | undefined;
  /** Each is length × 4 + channel: one number a run. */
  readonly runs: number[] = [];
  #buffer: Uint8Array;
  #length = 0;
  readonly #isOwn: boolean;

  constructor(order: number, channel: OutputChannel, bytes: Uint8Array) {
    this.order = order;
    this.#isOwn = bytes.byteLength <= SMALL_BYTES;
    // A small view would keep the whole buffer alive that a socket read it into.
    this.#buffer = this.#isOwn ? bytes.slice() : bytes;
    this.#extend(channel, bytes.byteLength);
  }

  get cost(): number {
    return this.#length + BLOCK_OVERHEAD_BYTES + this.overhead;
  }

  get overhead(): number {
    return this.runs.length * RUN_OVERHEAD_BYTES;
  }

  /** Takes small bytes in, or returns false: then they need a block of their own. */
  append(channel: OutputChannel, bytes: Uint8Array): boolean {
    const length = this.#length + bytes.byteLength;
    if (!this.#isOwn || bytes.byteLength > SMALL_BYTES || length > BLOCK_BYTES) return false;
    if (length > this.#buffer.byteLength) {
      // Views that were given out keep the old buffer: what is written once is never written again.
      const grown = new Uint8Array(Math.min(BLOCK_BYTES, Math.max(length, this.#buffer.byteLength * 2)));
      grown.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, this.#length);
    this.#extend(channel, bytes.byteLength);
    return true;
  }

  bytes(from: number, length: number): Uint8Array {
    return this.#buffer.subarray(from, from + length);
  }

  #extend(channel: OutputChannel, bytes: number): void {
    this.#length += bytes;
    const last = this.runs.length - 1;
    if (last >= 0 && channelOf(this.runs[last] as number) === channel)
      this.runs[last] = (this.runs[last] as number) + bytes * 4;
    else this.runs.push(bytes * 4 + channel);
  }
}

export function channelOf(run: number): OutputChannel {
  return (run % 4) as OutputChannel;
}

export function lengthOf(run: number): number {
  return Math.floor(run / 4);
}
