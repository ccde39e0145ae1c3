import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { ExitBody } from '../../shared/messages.ts';
import type { OutputChannel } from '../runner/execution-stream.ts';
import type { Offsets, OutputLog } from './output-log.ts';
import type { ExecutionPort } from './port.ts';

/** One who reads the output: over START's stream, or over one that ATTACH opened. */
export type Reader = {
  readonly id: string | null;
  readonly port: ExecutionPort;
  /** Where its stream began: offsets, and their sum but for what it had not acknowledged. */
  readonly from: Offsets;
  readonly base: number;
  /** Bytes that it may be sent on its stream. */
  limit: number;
};

/** A reader's end of its stream. */
export type ReaderHandle = {
  /** Output may be sent until this many bytes on its stream. */
  window(limit: number): void;
  /** `link_lost`: it may come back. `detached`: it has all it wants. */
  leave(why: 'link_lost' | 'detached'): void;
};

export const NO_READER: ReaderHandle = { window: () => {}, leave: () => {} };

/** Those who read one execution's output now. */
export class OutputReaders implements Iterable<Reader> {
  readonly #readers = new Set<Reader>();
  /** Who has been told the end, and not yet had all that is before it. */
  readonly #leaving = new Set<Reader>();

  get size(): number {
    return this.#readers.size;
  }

  /** With those to whom something is still on its way. */
  get sizeWithLeaving(): number {
    return this.#readers.size + this.#leaving.size;
  }

  [Symbol.iterator](): IterableIterator<Reader> {
    return this.#readers.values();
  }

  add(reader: Reader): void {
    this.#readers.add(reader);
  }

  /** False where it has left already, or was replaced. */
  delete(reader: Reader): boolean {
    return this.#readers.delete(reader);
  }

  /** A reader that comes again has given its earlier stream up, even where that still looks alive from here. */
  replace(id: string | null): void {
    for (const each of [...this.#readers, ...this.#leaving]) {
      if (each.id !== id) continue;
      this.#readers.delete(each);
      this.#leaving.delete(each);
      // Who sent START may come over another link while this one is dead; any other is told.
      if (id === null) each.port.close();
      else each.port.nack('replaced', 'Somebody else reads in this place now.', null);
    }
  }

  /** The last word to one who is among the readers no more. */
  tellEnd(reader: Reader, exit: ExitBody, onLeft: (how: 'left' | 'link_lost') => void): void {
    this.#leaving.add(reader);
    reader.port.exit(exit, (how) => {
      if (this.#leaving.delete(reader)) onLeft(how);
    });
  }

  /** Nobody can ask any more: whoever has not taken it by now never will. */
  letGo(): void {
    for (const { port } of [...this.#leaving]) port.close();
  }

  clear(): Reader[] {
    const readers = [...this.#readers];
    this.#readers.clear();
    return readers;
  }

  /** Bytes in all that the slowest may be sent. */
  get limit(): number {
    let lowest = Infinity;
    for (const { base, limit } of this.#readers) lowest = Math.min(lowest, base + limit);
    return lowest;
  }

  /** The first bytes that one of them may still need, or that are `wanted`; the end of the log where none are. */
  needed(log: OutputLog, wanted?: Offsets): Offsets {
    const all = [...this.#readers].map((reader) => neededBy(reader, log));
    if (wanted) all.push(wanted);
    const lowest = (channel: OutputChannel) =>
      Math.min(log.length[channel], ...all.map((offsets) => offsets[channel]));
    return { 1: lowest(1), 2: lowest(2), 3: lowest(3) };
  }
}

/** A lower bound of what a reader has: all but what it has not acknowledged, whichever channel that was on. */
export function neededBy({ from, base, limit }: Reader, { length, total }: OutputLog): Offsets {
  const unacknowledged = total - base - Math.max(0, limit - STREAM_WINDOW_BYTES);
  const needed = (channel: OutputChannel) => Math.max(from[channel], length[channel] - unacknowledged);
  return { 1: needed(1), 2: needed(2), 3: needed(3) };
}
