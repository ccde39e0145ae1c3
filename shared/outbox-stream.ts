import { Chunk } from './chunk.ts';

/** `bytes` have not left; once small data has joined, they are the end of `chunk`. */
export type DataItem = { kind: 'data'; channel: number; bytes: Uint8Array; chunk?: Chunk };
/** What waits on a stream: data, control frames behind it, gaps in it. */
export type Item =
  | DataItem
  | { kind: 'behind'; type: number; channel: number; body: Uint8Array }
  | { kind: 'gap'; skips: number; to: number; body: Uint8Array };

/** One stream of an outbox. */
export type Stream = {
  id: number;
  items: Item[];
  /** Index of the first item that has not left: shifting an array on every frame would copy it. */
  head: number;
  offsets: [number, number, number, number];
  sent: number;
  limit: number;
  queuedBytes: number;
  ready: boolean;
};

export function newStream(
  id: number,
  offsets: readonly [number, number, number, number],
  { sent, limit }: Pick<Stream, 'sent' | 'limit'>,
): Stream {
  return { id, items: [], head: 0, offsets: [...offsets], sent, limit, queuedBytes: 0, ready: false };
}

/** Lets small data join small data of its channel that waits: byte by byte it would cost an object and a frame a byte. */
export function joinsLast({ items, head }: Stream, channel: number, bytes: Uint8Array): boolean {
  const last = items.length > head ? items.at(-1) : undefined;
  if (last?.kind !== 'data' || last.channel !== channel) return false;
  const chunk = last.chunk ?? new Chunk(last.bytes);
  if (!chunk.append(bytes)) return false;
  last.chunk = chunk;
  last.bytes = chunk.bytes.subarray(chunk.length - last.bytes.byteLength - bytes.byteLength);
  return true;
}

/** The first item has left. */
export function dropFirst(stream: Stream): void {
  stream.items[stream.head] = undefined as unknown as Item;
  stream.head += 1;
  if (stream.head === stream.items.length) {
    stream.items = [];
    stream.head = 0;
  }
}
