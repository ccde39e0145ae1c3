import type { Stream } from './outbox-stream.ts';
import { Queue } from './queue.ts';

/** Streams that wait for their turn to send, the longest first. */
export class TurnQueue {
  readonly #streams = new Queue<Stream>();

  push(stream: Stream): void {
    this.#streams.push(stream);
  }

  /** Whose turn is next. Those that were closed meanwhile leave. */
  peek(): Stream | undefined {
    while (this.#streams.first?.turn === 0) this.#streams.shift();
    return this.#streams.first;
  }

  shift(): void {
    this.#streams.shift();
  }
}
