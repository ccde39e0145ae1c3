import { Chunk } from './chunk.ts';
import { Queue } from './queue.ts';

/**
 * `bytes` have not left; once small data has joined, they are the end of `chunk`. `channel` is that of the first of them;
 * where they are of several, `runs` says whose the next are, each length × 4 + channel.
 */
export type DataItem = {
  kind: 'data';
  channel: number;
  bytes: Uint8Array;
  chunk?: Chunk;
  runs?: { readonly list: number[]; head: number };
};
/** What waits on a stream: data, control frames behind it, gaps in it. */
export type Item =
  | DataItem
  | { kind: 'behind'; type: number; channel: number; body: Uint8Array }
  | { kind: 'gap'; skips: number; to: number; body: Uint8Array };

/** One stream of an outbox. */
export type Stream = {
  id: number;
  readonly items: Queue<Item>;
  offsets: [number, number, number, number];
  sent: number;
  limit: number;
  queuedBytes: number;
  /** When it began to wait for its turn, before those with larger numbers; 0 while nothing of it may go. */
  turn: number;
};

export function newStream(
  id: number,
  offsets: readonly [number, number, number, number],
  { sent, limit }: Pick<Stream, 'sent' | 'limit'>,
): Stream {
  return { id, items: new Queue(), offsets: [...offsets], sent, limit, queuedBytes: 0, turn: 0 };
}

/** Lets small data join small data that waits, of whatever channel: byte by byte it would cost an object a byte. */
export function joinsLast({ items }: Stream, channel: number, bytes: Uint8Array): boolean {
  const { last } = items;
  if (last?.kind !== 'data') return false;
  const chunk = last.chunk ?? new Chunk(last.bytes);
  if (!chunk.append(bytes)) return false;
  const waiting = last.bytes.byteLength;
  last.chunk = chunk;
  last.bytes = chunk.bytes.subarray(chunk.length - waiting - bytes.byteLength);
  extend(last, channel, bytes.byteLength, waiting);
  return true;
}

function extend(item: DataItem, channel: number, bytes: number, waiting: number): void {
  if (!item.runs && item.channel === channel) return;
  item.runs ??= { list: [waiting * 4 + item.channel], head: 0 };
  const { list } = item.runs;
  const last = list.length - 1;
  if ((list[last] as number) % 4 === channel) list[last] = (list[last] as number) + bytes * 4;
  else list.push(bytes * 4 + channel);
}

/** Bytes of `channel` that are next, before those of another. */
export function nextLength({ bytes, runs }: DataItem): number {
  return runs ? Math.floor((runs.list[runs.head] as number) / 4) : bytes.byteLength;
}

/** So many of them have left. */
export function advance(stream: Stream, item: DataItem, size: number): void {
  item.bytes = item.bytes.subarray(size);
  if (item.bytes.byteLength === 0) {
    stream.items.shift();
    return;
  }
  const { runs } = item;
  if (!runs) return;
  const left = (runs.list[runs.head] as number) - size * 4;
  if (left >= 4) runs.list[runs.head] = left;
  else {
    runs.head += 1;
    item.channel = (runs.list[runs.head] as number) % 4;
  }
}
