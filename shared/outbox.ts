import { ControlQueue } from './control-queue.ts';
import type { Frame } from './frame.ts';
import { TYPE } from './frame-type.ts';
import { LINK_IN_FLIGHT_BYTES, LINK_WINDOW_BYTES, MAX_DATA_BYTES, STREAM_WINDOW_BYTES } from './limits.ts';
import { advance, type Item, joinsLast, newStream, nextLength, type Stream } from './outbox-stream.ts';
import { TurnQueue } from './turn-queue.ts';

export type OutboxOptions = {
  streamWindow?: number;
  linkWindow?: number;
  linkInFlight?: number;
};

/**
 * What one side of a link has yet to send, in the order of shared/protocol.md 6.5: control first, then data round-robin
 * over streams within stream and link credit, END and EXIT behind their own stream's data. Pure state: the owner of the
 * socket calls `next()` while the socket takes more.
 *
 * Memory: bounded by what callers queue. Whoever queues data keeps within the peer's window (`room`).
 */
export class Outbox {
  readonly #control = new ControlQueue();
  #counter = 0;
  readonly #streams = new Map<number, Stream>();
  #turns = 0;
  /** Streams that may send: those whose next is data, and those whose next needs no link credit. */
  readonly #data = new TurnQueue();
  readonly #other = new TurnQueue();
  #linkSent = 0;
  #linkLimit: number;
  readonly #linkWindow: number;
  #linkInFlight: number;
  readonly #streamWindow: number;

  constructor(options: OutboxOptions = {}) {
    this.#streamWindow = options.streamWindow ?? STREAM_WINDOW_BYTES;
    this.#linkWindow = options.linkWindow ?? LINK_WINDOW_BYTES;
    this.#linkInFlight = options.linkInFlight ?? LINK_IN_FLIGHT_BYTES;
    this.#linkLimit = this.#linkWindow;
  }

  /**
   * Opens a stream for sending; `offsets` continue channels 0…3 of an execution that is attached again, and `pending`
   * bytes before them lie in the peer's window still.
   */
  open(stream: number, offsets: readonly [number, number, number, number] = [0, 0, 0, 0], pending = 0): void {
    this.#streams.set(stream, newStream(stream, offsets, { sent: pending, limit: this.#streamWindow }));
  }

  /** Forgets a stream and what it had queued. */
  close(stream: number): void {
    const state = this.#streams.get(stream);
    if (!state) return;
    this.#streams.delete(stream);
    state.items.clear();
    state.turn = 0;
  }

  /** Queues a control frame that goes before all data. */
  control(type: number, stream: number, body: Uint8Array): void {
    this.#control.push({ type, channel: 0, stream, body });
  }

  /** Queues data of any length on an open stream. The bytes are kept by reference, or copied where small ones wait already. */
  data(id: number, channel: 0 | 1 | 2 | 3, bytes: Uint8Array): void {
    if (bytes.byteLength === 0) return;
    const stream = this.#streams.get(id);
    if (stream && joinsLast(stream, channel, bytes)) stream.queuedBytes += bytes.byteLength;
    else this.#queue(id, { kind: 'data', channel, bytes }, bytes.byteLength);
  }

  /** Queues a control frame (END, EXIT) that stays behind the data its stream has queued. EXIT ends the stream when it goes. */
  behind(stream: number, type: number, channel: 0 | 1 | 2 | 3, body: Uint8Array): void {
    this.#queue(stream, { kind: 'behind', type, channel, body }, 0);
  }

  /** Queues REPLAY_GAP: what follows on the channel begins at `to`. */
  gap(stream: number, channel: 1 | 2 | 3, to: number, body: Uint8Array): void {
    this.#queue(stream, { kind: 'gap', skips: channel, to, body }, 0);
  }

  /** The peer's WINDOW for a stream. Returns false when it falls: a protocol error. */
  grant(stream: number, limit: number): boolean {
    const state = this.#streams.get(stream);
    if (!state) return true;
    if (limit < state.limit) return false;
    state.limit = limit;
    this.#wake(state);
    return true;
  }

  /** The peer's WINDOW for the link. Returns false when it falls, or acknowledges more than was sent. */
  grantLink(limit: number): boolean {
    if (limit < this.#linkLimit || limit - this.#linkWindow > this.#linkSent) return false;
    this.#linkLimit = limit;
    return true;
  }

  /** Bytes of DATA sent on all streams, and those that the peer has taken. */
  get linkSent(): number {
    return this.#linkSent;
  }

  get linkTaken(): number {
    return this.#linkLimit - this.#linkWindow;
  }

  /** Whether data waits for nothing but the link's credit. */
  get held(): boolean {
    return this.#linkRoom() <= 0 && this.#data.peek() !== undefined;
  }

  /** How much may be unacknowledged from now on. */
  setInFlight(bytes: number): void {
    this.#linkInFlight = bytes;
  }

  /** Bytes that may still be queued on a stream before the peer's window is full. */
  room(stream: number): number {
    const state = this.#streams.get(stream);
    return state ? Math.max(0, state.limit - state.sent - state.queuedBytes) : 0;
  }

  /** Bytes that the peer lets this side send on a stream, in all. */
  limit(stream: number): number {
    return this.#streams.get(stream)?.limit ?? 0;
  }

  /** Bytes that this side has sent on a stream, in all. */
  sent(stream: number): number {
    return this.#streams.get(stream)?.sent ?? 0;
  }

  /** More control frames wait than a peer that reads leaves. */
  get isFlooded(): boolean {
    return this.#control.isFlooded;
  }

  /** Nothing waits to be sent, whether or not it could be. */
  get empty(): boolean {
    if (!this.#control.isEmpty) return false;
    for (const stream of this.#streams.values()) if (stream.items.length > 0) return false;
    return true;
  }

  queuedBytes(stream: number): number {
    return this.#streams.get(stream)?.queuedBytes ?? 0;
  }

  /** The next frame to send, or undefined when nothing may go now. */
  next(): Frame | undefined {
    const control = this.#control.shift();
    if (control) return { ...control, sequence: ++this.#counter };
    const data = this.#linkRoom() > 0 ? this.#data.peek() : undefined;
    const other = this.#other.peek();
    const isData = data !== undefined && (!other || data.turn < other.turn);
    const stream = isData ? data : other;
    if (!stream) return undefined;
    (isData ? this.#data : this.#other).shift();
    stream.turn = 0;
    const frame = this.#take(stream);
    this.#wake(stream);
    return frame;
  }

  #queue(id: number, item: Item, bytes: number): void {
    const stream = this.#streams.get(id);
    if (!stream) return;
    stream.items.push(item);
    stream.queuedBytes += bytes;
    this.#wake(stream);
  }

  #wake(stream: Stream): void {
    if (stream.turn > 0 || !this.#streams.has(stream.id)) return;
    const item = stream.items.first;
    if (!item || (item.kind === 'data' && stream.limit <= stream.sent)) return;
    this.#turns += 1;
    stream.turn = this.#turns;
    (item.kind === 'data' ? this.#data : this.#other).push(stream);
  }

  #linkRoom(): number {
    const taken = this.#linkLimit - this.#linkWindow;
    return Math.min(this.#linkLimit, taken + this.#linkInFlight) - this.#linkSent;
  }

  #take(stream: Stream): Frame | undefined {
    const item = stream.items.first;
    if (!item) return undefined;
    if (item.kind === 'gap') {
      stream.items.shift();
      stream.offsets[item.skips as 1 | 2 | 3] = item.to;
      const sequence = ++this.#counter;
      return { type: TYPE.REPLAY_GAP, channel: 0, stream: stream.id, sequence, body: item.body };
    }
    if (item.kind === 'behind') {
      stream.items.shift();
      if (item.type === TYPE.EXIT) this.#streams.delete(stream.id);
      const offset = stream.offsets[item.channel as 0 | 1 | 2 | 3];
      const sequence = item.type === TYPE.END ? offset : ++this.#counter;
      return { type: item.type, channel: item.channel, stream: stream.id, sequence, body: item.body };
    }
    const size = Math.min(nextLength(item), MAX_DATA_BYTES, stream.limit - stream.sent, this.#linkRoom());
    const channel = item.channel as 0 | 1 | 2 | 3;
    const frame: Frame = {
      type: TYPE.DATA,
      channel,
      stream: stream.id,
      sequence: stream.offsets[channel],
      body: item.bytes.subarray(0, size),
    };
    stream.offsets[channel] += size;
    stream.sent += size;
    stream.queuedBytes -= size;
    this.#linkSent += size;
    advance(stream, item, size);
    return frame;
  }
}
