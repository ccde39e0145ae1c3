import { fitSentence } from '../../shared/announcement.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { LinkPeer } from '../../shared/link-peer.ts';
import type { AttachedBody, ExitBody, FileEnd, FROM_GATEWAY, FromAgent } from '../../shared/messages.ts';
import type { WriterPort } from '../executions/live-input.ts';
import type { ExecutionInput, ExecutionPort } from '../executions/port.ts';

export type AgentPeer = LinkPeer<typeof FROM_GATEWAY>;

/** One execution's stream on one link. */
export class StreamPort implements ExecutionPort, WriterPort {
  /** What the gateway's frames go to; undefined once the stream has ended. */
  input: ExecutionInput | undefined;
  readonly #peer: AgentPeer;
  readonly #stream: number;
  readonly #onEnd: (stream: number) => void;
  #onLeft: (how: 'left' | 'link_lost') => void = () => {};

  constructor(peer: AgentPeer, stream: number, onEnd: (stream: number) => void) {
    this.#peer = peer;
    this.#stream = stream;
    this.#onEnd = onEnd;
  }

  get link(): object {
    return this.#peer;
  }

  accept(): void {
    this.#peer.control('ACCEPT', this.#stream);
  }

  nack(code: ErrorCode, detail: string, retryAfterMs: number | null): void {
    this.#peer.close(this.#stream, true);
    const body = { code, detail: fitSentence(detail), retry_after_ms: retryAfterMs };
    this.#peer.control('NACK', this.#stream, body);
    this.gone();
  }

  attached(attached: AttachedBody): void {
    this.#peer.control('ACCEPT', this.#stream, { attached });
  }

  taking(taken: number): void {
    this.#peer.control('ACCEPT', this.#stream, { input: { taken } });
  }

  inputOver(body: FromAgent['INPUT']): void {
    this.#peer.control('INPUT', this.#stream, body);
    this.close();
  }

  gap(channel: 1 | 2 | 3, from: number, to: number): void {
    this.#peer.gap(this.#stream, channel, from, to);
  }

  close(): void {
    this.#peer.close(this.#stream, true);
    this.gone();
  }

  started(): void {
    this.#peer.control('STARTED', this.#stream);
  }

  data(channel: 1 | 2 | 3, bytes: Uint8Array): void {
    this.#peer.data(this.#stream, channel, bytes);
  }

  fileEnd(file: FileEnd): void {
    this.#peer.behind('END', this.#stream, 3, file);
  }

  exit(body: ExitBody, left: (how: 'left' | 'link_lost') => void): void {
    this.input = undefined;
    this.#onLeft = left;
    this.#peer.behind('EXIT', this.#stream, 0, body);
  }

  /** Nothing of it waits to be sent any more. */
  gone(how: 'left' | 'link_lost' = 'left'): void {
    this.#peer.close(this.#stream, false);
    this.#onEnd(this.#stream);
    this.#onLeft(how);
  }

  consumed(bytes: number): void {
    this.#peer.consumed(this.#stream, bytes);
  }

  /** Whether the gateway lets more come than its window holds: as much as the program writes would wait here. */
  get isOpenedTooFar(): boolean {
    return this.limit > this.#peer.outbox.sent(this.#stream) + STREAM_WINDOW_BYTES;
  }

  /** The gateway's limit for this stream, as WINDOW gave it. */
  get limit(): number {
    return this.#peer.outbox.limit(this.#stream);
  }
}
