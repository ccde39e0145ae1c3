import { LINK_ACK_BYTES, LINK_IN_FLIGHT_BYTES, LINK_WINDOW_BYTES } from './limits.ts';

/** Less would let a link idle between two acknowledgements. */
const MIN_WINDOW_BYTES = 2 * LINK_ACK_BYTES;
const STEP_BYTES = LINK_ACK_BYTES;
/** Delay over the wire's own that says that the wire is full, and that it has room. */
const FULL_MS = 8;
const ROOM_MS = 3;
/** The wire's own delay is measured anew after this long, with little in flight: a route may change. */
const BASE_TTL_MS = 10_000;

/**
 * How many bytes of DATA a link keeps on their way (shared/protocol.md 6.3): as many as the wire holds, told by how
 * much longer acknowledgements take than the shortest did. A control frame waits behind no more than this. Links that
 * share a wire see the same delay and share its room. Pure state; times in ms of one clock.
 */
export class Flight {
  #window = LINK_IN_FLIGHT_BYTES;
  #baseMs = Number.POSITIVE_INFINITY;
  #baseAtMs = 0;
  /** One sample at a time: the total whose acknowledgement it waits for, and when it left. */
  #markBytes = 0;
  #markAtMs = 0;
  #probing = false;

  /** Bytes that may be unacknowledged. */
  get window(): number {
    return this.#probing ? MIN_WINDOW_BYTES : this.#window;
  }

  /** DATA has left: `sentBytes` in all, of which the peer has taken `takenBytes`. */
  sent(sentBytes: number, takenBytes: number, nowMs: number): void {
    // The peer acknowledges in steps: with less on its way than one, it may say nothing for long.
    if (this.#markBytes !== 0 || sentBytes - takenBytes < LINK_ACK_BYTES) return;
    this.#markBytes = sentBytes - LINK_ACK_BYTES + 1;
    this.#markAtMs = nowMs;
  }

  /** The peer has taken `takenBytes` in all. `held`: there was more to send than the window let. */
  taken(takenBytes: number, nowMs: number, held: boolean): void {
    if (this.#markBytes === 0 || takenBytes < this.#markBytes) return;
    const tookMs = nowMs - this.#markAtMs;
    this.#markBytes = 0;
    if (this.#probing || tookMs <= this.#baseMs) {
      this.#baseMs = tookMs;
      this.#baseAtMs = nowMs;
      this.#probing = false;
    } else if (nowMs - this.#baseAtMs > BASE_TTL_MS) {
      this.#probing = true;
    }
    const overMs = tookMs - this.#baseMs;
    if (overMs > FULL_MS) this.#window = Math.max(MIN_WINDOW_BYTES, Math.floor((this.#window * 3) / 4));
    else if (overMs < ROOM_MS && held) this.#window = Math.min(LINK_WINDOW_BYTES, this.#window + STEP_BYTES);
  }
}
