import type { Frame } from './frame.ts';
import { MAX_CONTROL_WAITING, MAX_CONTROL_WAITING_BYTES } from './limits.ts';

type Waiting = Omit<Frame, 'sequence'>;

/** Places of those that have left, before the rest moves up: shifting an array on every frame would copy it. */
const MAX_LEFT = 1_024;

/** Control frames that wait to be sent, the oldest first. */
export class ControlQueue {
  #frames: (Waiting | undefined)[] = [];
  /** Index of the first that has not left. */
  #head = 0;
  #bytes = 0;

  push(frame: Waiting): void {
    this.#frames.push(frame);
    this.#bytes += frame.body.byteLength;
  }

  shift(): Waiting | undefined {
    const first = this.#frames[this.#head];
    if (!first) return undefined;
    this.#bytes -= first.body.byteLength;
    this.#frames[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#frames.length || this.#head > MAX_LEFT) {
      this.#frames = this.#frames.slice(this.#head);
      this.#head = 0;
    }
    return first;
  }

  get isEmpty(): boolean {
    return this.#frames.length === 0;
  }

  /** More waits than a peer that reads leaves: one that asks and does not read lets it grow. */
  get isFlooded(): boolean {
    return this.#frames.length - this.#head > MAX_CONTROL_WAITING || this.#bytes > MAX_CONTROL_WAITING_BYTES;
  }
}
