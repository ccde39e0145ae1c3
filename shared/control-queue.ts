import type { Frame } from './frame.ts';
import { MAX_CONTROL_WAITING, MAX_CONTROL_WAITING_BYTES } from './limits.ts';
import { Queue } from './queue.ts';

type Waiting = Omit<Frame, 'sequence'>;

/** Control frames that wait to be sent, the oldest first. */
export class ControlQueue {
  readonly #frames = new Queue<Waiting>();
  #bytes = 0;

  push(frame: Waiting): void {
    this.#frames.push(frame);
    this.#bytes += frame.body.byteLength;
  }

  shift(): Waiting | undefined {
    const first = this.#frames.shift();
    if (first) this.#bytes -= first.body.byteLength;
    return first;
  }

  get isEmpty(): boolean {
    return this.#frames.length === 0;
  }

  /** More waits than a peer that reads leaves: one that asks and does not read lets it grow. */
  get isFlooded(): boolean {
    return this.#frames.length > MAX_CONTROL_WAITING || this.#bytes > MAX_CONTROL_WAITING_BYTES;
  }
}
