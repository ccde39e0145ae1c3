/** What waits on a stream: data, control frames behind it, gaps in it. */
export type Item =
  | { kind: 'data'; channel: number; bytes: Uint8Array }
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

/** The first item has left. */
export function dropFirst(stream: Stream): void {
  stream.items[stream.head] = undefined as unknown as Item;
  stream.head += 1;
  if (stream.head === stream.items.length) {
    stream.items = [];
    stream.head = 0;
  }
}
