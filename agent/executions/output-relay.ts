import { ORPHAN_MS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { OutputChannel } from '../runner/execution-stream.ts';
import type { RunnerExecution } from '../runner/runner-execution.ts';
import { ExecutionOutput } from './execution-output.ts';
import type { ExecutionPort } from './port.ts';
import type { Retention } from './retention.ts';
import type { RunnerWatch } from './runner-watch.ts';

export type OutputRelayDeps = {
  clock: Clock;
  port: ExecutionPort;
  retention: Retention;
  /** How many of the first files are none. */
  documents: number;
  watch: RunnerWatch;
  /** Nobody reads, and whoever lost its link did not come back in time. */
  onOrphaned: () => void;
};

/**
 * What a runner sends, on its way to everybody who reads it. Their limits are the runner's, until nobody takes the output
 * any more: then the runner gets rid of it, so that its EXIT can come.
 */
export class OutputRelay {
  readonly output: ExecutionOutput;
  readonly #onOrphaned: () => void;
  #runner: RunnerExecution | undefined;
  #bytes = 0;
  #isDropped = false;
  #isOver = false;
  #cancelWait: CancelTimer = () => {};

  constructor({ clock, port, retention, documents, watch, onOrphaned }: OutputRelayDeps) {
    this.output = new ExecutionOutput(port, {
      retention,
      documents,
      onLimit: (limit, wasHeld) => {
        if (wasHeld) watch.sign();
        this.#runner?.window(limit);
      },
      onAwaited: (isAwaited) => {
        this.#cancelWait();
        if (isAwaited && !this.#isOver) this.#cancelWait = clock.after(ORPHAN_MS, () => this.#orphaned());
      },
    });
    this.#onOrphaned = onOrphaned;
  }

  /** What the runner has sent, dropped or not. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Fewer bytes come than the program writes. */
  get isDropped(): boolean {
    return this.#isDropped;
  }

  /** The runner is there: it may send. */
  begin(runner: RunnerExecution): void {
    this.#runner = runner;
    runner.window(this.output.granted);
  }

  data(channel: OutputChannel, bytes: Uint8Array): void {
    this.#bytes += bytes.byteLength;
    this.output.data(channel, bytes);
    if (this.#isDropped) this.#openWindow();
  }

  /** Nobody takes the output any more. */
  drop(): void {
    this.#isDropped = true;
    this.output.dropRest();
    this.#openWindow();
  }

  /** The execution is over: nobody is waited for. */
  over(): void {
    this.#isOver = true;
    this.#cancelWait();
  }

  #orphaned(): void {
    if (this.output.giveUpWaiting()) this.#onOrphaned();
  }

  #openWindow(): void {
    this.#runner?.window(this.#bytes + STREAM_WINDOW_BYTES);
  }
}
