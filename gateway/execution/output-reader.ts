import type { Failure } from '../../shared/errors.ts';
import { READER_STALL_MS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { Timers } from '../gateway-deps.ts';
import type { Ending } from './ending.ts';
import { type OutputChunk, type OutputGap, OutputQueue } from './output-queue.ts';

export type Last = { type: 'end'; ending: Ending } | { type: 'failed'; failure: Failure };
export type Taken =
  | ({ type: 'output' } & OutputChunk)
  | ({ type: 'gap' } & OutputGap)
  | { type: 'idle' }
  | Last;

/** The output of one execution as one reader takes it, from whatever it comes. One reader, one call at a time. */
export type OutputSource = {
  readonly executionId: string;
  /** The next output, the end or the failure; `idle` when nothing came for so long. */
  next(idleMs?: number): Promise<Taken>;
  /** Takes memory for output that is kept to the end. */
  keep(bytes: number): void;
  /** Its memory stays taken when the end was, until what this gives is called or nobody reads any more. */
  hold(): () => void;
  /** Nobody reads any more. */
  abandon(): void;
  /** Runs when the reader is given up: it stalled, then did not even take that news. */
  onDismiss(callback: () => void): void;
};

export type OutputReaderOptions = {
  timers: Timers;
  /** The reader took bytes: the stream's window may rise. */
  consumed(bytes: number): void;
  /** The reader took nothing for READER_STALL_MS while something waited. */
  stalled(): void;
  /** Nothing is kept for the reader any more: it has everything, or it is gone. */
  dismissed(): void;
};

/** Output on its way from a link to the one who reads it: bytes count as consumed only when they are taken. */
export class OutputReader {
  readonly #options: OutputReaderOptions;
  readonly #queue = new OutputQueue();
  #last: Last | undefined;
  #dismissed = false;
  #isIgnored = false;
  #waiter: ((taken: Taken) => void) | undefined;
  #idleTimer: unknown;
  #stallTimer: unknown;
  #armed = false;
  #peakBytes = 0;
  /** Runs when a reader that stalled is given up. */
  onDismiss: () => void = () => {};

  constructor(options: OutputReaderOptions) {
    this.#options = options;
  }

  /** Whether the last word is said; it may not have been taken. */
  get ended(): boolean {
    return this.#last !== undefined;
  }

  /**
   * Whether the reader held the program back since the last call: something waits now, or half a window did. A reader
   * that keeps up never has as much waiting.
   */
  heldBack(): boolean {
    const held = this.#queue.bytes > 0 || this.#peakBytes >= STREAM_WINDOW_BYTES / 2;
    this.#peakBytes = 0;
    return held;
  }

  push(channel: number, bytes: Uint8Array): void {
    if (this.#dismissed || this.#isIgnored) this.#options.consumed(bytes.byteLength);
    else {
      this.#queue.push(channel, bytes);
      this.#peakBytes = Math.max(this.#peakBytes, this.#queue.bytes);
      this.#serve();
    }
  }

  /** Says that bytes are gone, behind what waits. False where more gaps wait than an honest agent tells of. */
  gap(gap: OutputGap): boolean {
    if (this.#dismissed || this.#isIgnored) return true;
    if (!this.#queue.pushGap(gap)) return false;
    this.#serve();
    return true;
  }

  /** Nobody reads any more, and what comes is thrown away until the end, which waits for nobody. */
  ignore(): void {
    if (this.#dismissed || this.#isIgnored) return;
    this.#isIgnored = true;
    const { bytes } = this.#queue;
    this.#disarm();
    this.#queue.clear();
    if (bytes > 0) this.#options.consumed(bytes);
    if (this.#last) this.dismiss();
  }

  /** The last thing a reader gets, behind what waits; a key that is no longer good gets nothing more. */
  end(last: Last): void {
    if (this.#last) return;
    this.#last = last;
    if (last.type === 'failed' && last.failure.code === 'unauthorized') this.#queue.clear();
    if (this.#isIgnored) this.dismiss();
    this.#serve();
  }

  next(idleMs?: number): Promise<Taken> {
    const ready = this.#take();
    if (ready) return Promise.resolve(ready);
    return new Promise((resolve) => {
      this.#waiter = resolve;
      if (idleMs !== undefined)
        this.#idleTimer = this.#options.timers.setTimeout(() => this.#answer({ type: 'idle' }), idleMs);
    });
  }

  /** Throws away what waits. Idempotent. */
  dismiss(): void {
    if (this.#dismissed) return;
    this.#dismissed = true;
    this.#disarm();
    this.#queue.clear();
    this.#options.dismissed();
  }

  #serve(): void {
    if (this.#waiter) {
      const taken = this.#take();
      if (taken) this.#answer(taken);
    } else if (!this.#armed && !this.#dismissed) this.#arm();
  }

  #take(): Taken | undefined {
    const item = this.#queue.shift();
    if (item) {
      this.#disarm();
      if (this.#queue.bytes > 0 || this.#last) this.#arm();
      if (!('bytes' in item)) return { type: 'gap', ...item };
      this.#options.consumed(item.bytes.byteLength);
      return { type: 'output', ...item };
    }
    if (!this.#last) return undefined;
    this.dismiss();
    return this.#last;
  }

  #answer(taken: Taken): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    this.#options.timers.clearTimeout(this.#idleTimer);
    waiter?.(taken);
  }

  #arm(): void {
    this.#armed = true;
    this.#stallTimer = this.#options.timers.setTimeout(() => this.#stall(), READER_STALL_MS);
  }

  #disarm(): void {
    this.#armed = false;
    this.#options.timers.clearTimeout(this.#stallTimer);
  }

  /** First the execution ends for it; a reader that does not take even that is let go. */
  #stall(): void {
    this.#armed = false;
    if (!this.#last) {
      this.#options.stalled();
      if (!this.#armed && !this.#isIgnored) this.#arm();
      return;
    }
    this.dismiss();
    this.onDismiss();
  }
}
