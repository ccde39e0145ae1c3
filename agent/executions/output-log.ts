import type { FileEnd } from '../../shared/messages.ts';
import type { OutputChannel } from '../runner/execution-stream.ts';
import { channelOf, lengthOf, OutputBlock } from './output-block.ts';
import type { Retention } from './retention.ts';

/** A byte of each output channel. */
export type Offsets = Readonly<Record<OutputChannel, number>>;
/** By channel, in an array: an object with such members takes three times as much, and every execution that is over has some. */
export type ByChannel = [number, number, number, number];

/** One thing to send: bytes of a channel, or the end of a file on channel 3. */
export type LogItem = { channel: OutputChannel; bytes: Uint8Array } | { file: FileEnd };

const CHANNELS = [1, 2, 3] as const;
const FILE_OVERHEAD_BYTES = 256;
/** What the runs of stdout and stderr, which take turns, may cost beside their bytes. */
const MAX_RUNS_BYTES = 524_288;

type List = { head: OutputBlock | undefined; tail: OutputBlock | undefined; overhead: number };
type Piece = { order: number; channel: OutputChannel; bytes: Uint8Array };
type FileMark = { readonly file: FileEnd; readonly order: number };

/**
 * What one execution has sent, in the order in which it came, as far back as its owner
 * lets it. stdout and stderr are dropped apart from files, so that a large file costs no output.
 */
export class OutputLog {
  /** Bytes that came. */
  readonly length: ByChannel = [0, 0, 0, 0];
  /** The first byte that is still here. */
  readonly floor: ByChannel = [0, 0, 0, 0];
  readonly files: FileMark[] = [];
  /** Files whose END came, whether or not they are still here. */
  fileCount = 0;
  readonly #retention: Retention;
  readonly #text: List = emptyList();
  readonly #contents: List = emptyList();
  #blocks = 0;
  #last: OutputBlock | undefined;
  #cost = 0;

  constructor(retention: Retention) {
    this.#retention = retention;
  }

  /** What it costs to keep. */
  get cost(): number {
    return this.#cost;
  }

  get total(): number {
    return this.length[1] + this.length[2] + this.length[3];
  }

  push(channel: OutputChannel, bytes: Uint8Array): void {
    const list = channel === 3 ? this.#contents : this.#text;
    this.length[channel] += bytes.byteLength;
    const last = this.#last;
    // Only the newest block of all may grow: an older one would change the order.
    if (last && list.tail === last) {
      const { cost, overhead } = last;
      if (last.append(channel, bytes)) {
        list.overhead += last.overhead - overhead;
        this.#charge(last.cost - cost);
        return;
      }
    }
    this.#blocks += 1;
    const block = new OutputBlock(this.#blocks, channel, bytes);
    if (list.tail) list.tail.next = block;
    else list.head = block;
    list.tail = block;
    this.#last = block;
    list.overhead += block.overhead;
    this.#charge(block.cost);
  }

  end(file: FileEnd): void {
    this.#blocks += 1;
    // What comes next is another file's: it must not join the block before.
    this.#last = undefined;
    this.files.push({ file, order: this.#blocks });
    this.fileCount += 1;
    this.holdName(file.path);
  }

  /** Counts the name of a file, which is kept until all of this is forgotten. */
  holdName(path: string): void {
    this.#charge(FILE_OVERHEAD_BYTES + 2 * path.length);
  }

  /** Drops what is over its share and nobody needs: `needed` are the first bytes that somebody may still want. */
  trim(needed: Offsets, maxBytes: number): void {
    while (this.#isTextOver(maxBytes)) if (!this.#dropHead(this.#text, needed)) break;
    while (this.#kept(3) > maxBytes) if (!this.#dropHead(this.#contents, needed)) break;
  }

  /** Whether more is here than `maxBytes` a channel. */
  isOver(maxBytes: number): boolean {
    return this.#isTextOver(maxBytes) || this.#kept(3) > maxBytes;
  }

  /** What is here from these offsets and behind so many files, in the order in which it came. */
  *items(from: Offsets, files: number): Generator<LogItem, void, undefined> {
    let next = files;
    for (const { order, channel, bytes } of this.#pieces(from)) {
      for (let mark = this.files[next]; mark && mark.order < order; mark = this.files[next]) {
        next += 1;
        yield { file: mark.file };
      }
      yield { channel, bytes };
    }
    for (const { file } of this.files.slice(next)) yield { file };
  }

  /** Drops every byte. What it was, and which files there were, stays. */
  clear(): void {
    let freed = 0;
    for (const list of [this.#text, this.#contents]) {
      for (let block = list.head; block; block = block.next) freed += block.cost;
      Object.assign(list, emptyList());
    }
    Object.assign(this.floor, this.length);
    this.#last = undefined;
    this.#charge(-freed);
  }

  /** Drops the names of files too. Returns how many there were. */
  forget(): number {
    this.clear();
    this.#charge(-this.#cost);
    return this.files.splice(0).length;
  }

  *#pieces(from: Offsets): Generator<Piece, void, undefined> {
    const at: ByChannel = [...this.floor];
    for (const block of this.#inOrder()) {
      let inBlock = 0;
      for (const run of block.runs) {
        const channel = channelOf(run);
        const length = lengthOf(run);
        const had = Math.min(length, Math.max(0, from[channel] - at[channel]));
        if (had < length)
          yield { order: block.order, channel, bytes: block.bytes(inBlock + had, length - had) };
        inBlock += length;
        at[channel] += length;
      }
    }
  }

  *#inOrder(): Generator<OutputBlock, void, undefined> {
    let text = this.#text.head;
    let contents = this.#contents.head;
    for (;;) {
      if (text && (!contents || text.order < contents.order)) {
        yield text;
        text = text.next;
      } else if (contents) {
        yield contents;
        contents = contents.next;
      } else return;
    }
  }

  #isTextOver(maxBytes: number): boolean {
    return this.#kept(1) > maxBytes || this.#kept(2) > maxBytes || this.#text.overhead > MAX_RUNS_BYTES;
  }

  #kept(channel: OutputChannel): number {
    return this.length[channel] - this.floor[channel];
  }

  #dropHead(list: List, needed: Offsets): boolean {
    const { head } = list;
    if (!head || head === list.tail) return false;
    const ends: ByChannel = [...this.floor];
    for (const run of head.runs) ends[channelOf(run)] += lengthOf(run);
    if (CHANNELS.some((channel) => ends[channel] > this.floor[channel] && ends[channel] > needed[channel]))
      return false;
    Object.assign(this.floor, ends);
    list.head = head.next;
    list.overhead -= head.overhead;
    this.#charge(-head.cost);
    return true;
  }

  #charge(bytes: number): void {
    this.#cost += bytes;
    this.#retention.charge(bytes);
  }
}

function emptyList(): List {
  return { head: undefined, tail: undefined, overhead: 0 };
}
