import { Failure } from '../../shared/errors.ts';
import { NO_AGENT_RETRY_MS } from '../clusters/placement.ts';
import type { FileStore } from '../files/file-store.ts';
import type { LinkStreams } from '../link/link-streams.ts';
import { type ExecutionInput, notFoundForPath } from './execution-input.ts';

export type InputSenderOptions = {
  streams: LinkStreams;
  stream: number;
  input: ExecutionInput;
  principal: string;
  store: FileStore;
  /** Input could not be had: nothing has run, since code starts only when its input is whole. */
  failed(failure: Failure): void;
};

/** Sends the input of one execution. Stored files are read only as fast as the agent takes them. */
export class InputSender {
  readonly #options: InputSenderOptions;
  readonly #stop = new AbortController();
  #wake: (() => void) | undefined;
  #isSending = false;

  constructor(options: InputSenderOptions) {
    this.#options = options;
  }

  /** Bytes that lie in memory anyway are handed over at once; the link holds them to its credit. */
  start(): void {
    const { streams, stream, input } = this.#options;
    for (const bytes of input.head) streams.input(stream, bytes);
    if (input.files.length === 0) streams.inputEnd(stream);
    else void this.#sendFiles();
  }

  /** The agent may have raised its window. */
  room(): void {
    this.#wake?.();
  }

  /** Sends no more. */
  stop(): void {
    // An abort costs microseconds, and most have nothing left to send.
    if (!this.#isSending) return;
    this.#stop.abort();
    this.#wake?.();
  }

  async #sendFiles(): Promise<void> {
    const { streams, stream, input, failed } = this.#options;
    this.#isSending = true;
    try {
      for (const file of input.files) {
        if ('bytes' in file) streams.input(stream, file.bytes);
        else if ('body' in file) await this.#sendOnce(file.body, file.size);
        else await this.#sendStored(file.fileId, file.path, file.size);
        if (this.#stop.signal.aborted) return;
      }
      streams.inputEnd(stream);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      failed(
        error instanceof Failure
          ? error
          : new Failure('internal', 'An input file could not be read.', { cause: error }),
      );
    } finally {
      this.#isSending = false;
    }
  }

  /** A request's body: what an earlier attempt has taken of it is nowhere any more. */
  async #sendOnce(body: ReadableStream<Uint8Array>, size: number): Promise<void> {
    if (body.locked) {
      const detail = 'The link to the agent was lost before all of the body had arrived; send it again.';
      throw new Failure('no_agent', detail, { retryAfterMs: NO_AGENT_RETRY_MS });
    }
    await this.#sendBody(body, size, endedEarly);
  }

  async #sendStored(fileId: string, path: string, size: number): Promise<void> {
    const { principal, store } = this.#options;
    const { signal } = this.#stop;
    const { body } = await store.open(principal, fileId, signal).catch((error: unknown) => {
      throw notFoundForPath(error, fileId, path);
    });
    // START has announced the size: less or more would be another file's bytes in this one's place.
    const wrong = () => new Failure('internal', 'An input file has not the size it was stored with.');
    await this.#sendBody(body, size, wrong);
  }

  async #sendBody(body: ReadableStream<Uint8Array>, size: number, wrongSize: () => Failure): Promise<void> {
    const { streams, stream } = this.#options;
    const { signal } = this.#stop;
    const reader = body.getReader();
    let sent = 0;
    try {
      for (;;) {
        await this.#room();
        if (signal.aborted) return;
        const { done, value } = await reader.read();
        if (signal.aborted) return;
        if (done) break;
        sent += value.byteLength;
        if (sent > size) break;
        streams.input(stream, value);
      }
    } finally {
      await reader.cancel().catch(() => {});
    }
    if (sent !== size) throw wrongSize();
  }

  async #room(): Promise<void> {
    const { streams, stream } = this.#options;
    while (streams.room(stream) === 0 && !this.#stop.signal.aborted)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    this.#wake = undefined;
  }
}

function endedEarly(): Failure {
  return new Failure('invalid_request', 'The request body ended early, or is longer than it said.');
}
