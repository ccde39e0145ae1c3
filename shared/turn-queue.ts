import type { Stream } from './outbox-stream.ts';

/** Places of those that had their turn, before the rest moves up: shifting an array on every frame would copy it. */
const MAX_LEFT = 1_024;

/** Streams that wait for their turn to send, the longest first. */
export class TurnQueue {
  #streams: Stream[] = [];
  #head = 0;

  push(stream: Stream): void {
    this.#streams.push(stream);
  }

  /** Whose turn is next, leaving out those that were closed. */
  get first(): Stream | undefined {
    while (this.#streams[this.#head]?.turn === 0) this.shift();
    return this.#streams[this.#head];
  }

  shift(): void {
    this.#head += 1;
    if (this.#head < this.#streams.length && this.#head <= MAX_LEFT) return;
    this.#streams = this.#streams.slice(this.#head);
    this.#head = 0;
  }
}
