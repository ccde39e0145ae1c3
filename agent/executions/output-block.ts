import { Chunk } from '../../shared/chunk.ts';
import type { OutputChannel } from '../runner/execution-stream.ts';

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
  readonly #chunk: Chunk;

  constructor(order: number, channel: OutputChannel, bytes: Uint8Array) {
    this.order = order;
    this.#chunk = new Chunk(bytes);
    this.#extend(channel, bytes.byteLength);
  }

  get cost(): number {
    return this.#chunk.length + BLOCK_OVERHEAD_BYTES + this.overhead;
  }

  get overhead(): number {
    return this.runs.length * RUN_OVERHEAD_BYTES;
  }

  /** Takes small bytes in, or returns false: then they need a block of their own. */
  append(channel: OutputChannel, bytes: Uint8Array): boolean {
    if (!this.#chunk.append(bytes)) return false;
    this.#extend(channel, bytes.byteLength);
    return true;
  }

  bytes(from: number, length: number): Uint8Array {
    return this.#chunk.bytes.subarray(from, from + length);
  }

  #extend(channel: OutputChannel, bytes: number): void {
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
