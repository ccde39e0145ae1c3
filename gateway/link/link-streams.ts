import type { ErrorCode } from '../../shared/errors.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { LinkPeer } from '../../shared/link-peer.ts';
import type { FROM_AGENT, FromGateway, StartBody } from '../../shared/messages.ts';
import type { AgentMessage } from './link-state.ts';

/** One execution's end of a link. Each returns what the peer did wrong, if it did. */
export type StreamHandlers = {
  control(message: AgentMessage): ErrorCode | null;
  data(channel: number, bytes: Uint8Array): ErrorCode | null;
  /** There may be more room for input now. */
  room(): void;
  /** The link is gone; nothing comes any more. */
  lost(): void;
};

/** What an agent says last on a stream. */
const LAST: ReadonlySet<string> = new Set(['EXIT', 'NACK', 'INPUT']);

/** The streams of one link: each is lent to one execution (shared/protocol.md 2.4 and 3). */
export class LinkStreams {
  readonly #peer: LinkPeer<typeof FROM_AGENT>;
  readonly #streams = new Map<number, StreamHandlers>();
  #last = 0;

  constructor(peer: LinkPeer<typeof FROM_AGENT>) {
    this.#peer = peer;
  }

  get size(): number {
    return this.#streams.size;
  }

  /** Opens a stream and sends START on it. */
  start(body: StartBody, handlers: StreamHandlers): number {
    const stream = ++this.#last;
    this.#streams.set(stream, handlers);
    this.#peer.open(stream);
    this.#peer.control('START', stream, body);
    return stream;
  }

  /** Opens a stream for an execution that the agent has already, and sends ATTACH on it. */
  attach(body: FromGateway['ATTACH'], handlers: StreamHandlers): number {
    const stream = ++this.#last;
    this.#streams.set(stream, handlers);
    this.#peer.reopen(stream, body.offsets, body.pending);
    this.#peer.control('ATTACH', stream, body);
    return stream;
  }

  /** Opens a stream that feeds an execution's stdin, and sends INPUT on it. */
  feed(body: FromGateway['INPUT'], handlers: StreamHandlers): number {
    const stream = ++this.#last;
    this.#streams.set(stream, handlers);
    this.#peer.open(stream);
    this.#peer.control('INPUT', stream, body);
    return stream;
  }

  /** Reads no more of an execution that goes on. */
  detach(stream: number): void {
    if (this.#streams.has(stream)) this.#peer.control('DETACH', stream);
    this.release(stream);
  }

  /** Queues input. What lies in memory anyway may be queued at once; the rest keeps within `room`. */
  input(stream: number, bytes: Uint8Array): void {
    this.#peer.data(stream, CHANNEL.input, bytes);
  }

  inputEnd(stream: number, body: FromGateway['END'] = {}): void {
    this.#peer.behind('END', stream, CHANNEL.input, body);
  }

  /** Of a terminal that the stream feeds. */
  resize(stream: number, size: FromGateway['RESIZE']): void {
    if (this.#streams.has(stream)) this.#peer.control('RESIZE', stream, size);
  }

  /** Bytes of input that the agent's windows have let this side send so far. */
  inputLimit(stream: number): number {
    return this.#peer.outbox.limit(stream);
  }

  /** Bytes of input that the agent would take now. However far it opens its window, what waits here is one at most. */
  room(stream: number): number {
    const { outbox } = this.#peer;
    return Math.max(0, Math.min(outbox.room(stream), STREAM_WINDOW_BYTES - outbox.queuedBytes(stream)));
  }

  /** The consumer took bytes of output: the agent may send as many more. */
  consumed(stream: number, bytes: number): void {
    this.#peer.consumed(stream, bytes);
  }

  cancel(stream: number, reason: string): void {
    if (this.#streams.has(stream)) this.#peer.control('CANCEL', stream, { reason });
  }

  /** Forgets a stream: what still comes on it is dropped. */
  release(stream: number): void {
    if (this.#streams.delete(stream)) this.#peer.close(stream, true);
  }

  /** Hands a control frame on. Streams that this side has let go of drop theirs, as late ones are. */
  deliver(stream: number, message: AgentMessage): ErrorCode | null {
    const handlers = this.#streams.get(stream);
    if (!handlers) return null;
    const fault = handlers.control(message);
    // A fault keeps the stream: with the link it is lost, and its execution learns that.
    if (!fault && LAST.has(message.name)) this.release(stream);
    return fault;
  }

  data(stream: number, channel: number, bytes: Uint8Array): ErrorCode | null {
    return this.#streams.get(stream)?.data(channel, bytes) ?? null;
  }

  /** The agent raised a stream's window. */
  raised(stream: number): void {
    this.#streams.get(stream)?.room();
  }

  /** The link is gone. */
  lose(): void {
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    for (const handlers of streams) handlers.lost();
  }
}
