import { Chunk } from '../../shared/chunk.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { RunnerExecution } from '../runner/runner-execution.ts';
import type { ExecutionPort } from './port.ts';

/**
 * The input that START announced, on its way to the runner: one window of it waits here until there is one. What the
 * runner takes is credited to whoever sends, as long as its link lives.
 */
export class StartInput {
  readonly #announced: number;
  readonly #port: Pick<ExecutionPort, 'consumed'>;
  #early: Chunk[] = [];
  #sink: Pick<RunnerExecution, 'write'> | undefined;
  #received = 0;
  #taken = 0;
  #isLinked = true;

  /** `announced`: bytes in all. */
  constructor(announced: number, port: Pick<ExecutionPort, 'consumed'>) {
    this.#announced = announced;
    this.#port = port;
  }

  get isWhole(): boolean {
    return this.#received >= this.#announced;
  }

  get isExact(): boolean {
    return this.#received === this.#announced;
  }

  /** Counts bytes that came. False: there are more of them than were announced. */
  count(bytes: number): boolean {
    this.#received += bytes;
    return this.#received <= this.#announced;
  }

  push(bytes: Uint8Array): void {
    if (this.#sink) this.#sink.write(bytes);
    else if (!this.#early.at(-1)?.append(bytes)) this.#early.push(new Chunk(bytes));
  }

  /** The runner is there: what waits may go. */
  begin(sink: Pick<RunnerExecution, 'write'>): void {
    this.#sink = sink;
    for (const { bytes } of this.#early) sink.write(bytes);
    this.#early = [];
  }

  /** The runner's WINDOW. */
  window(limit: number): void {
    const bytes = Math.min(limit - STREAM_WINDOW_BYTES, this.#announced) - this.#taken;
    if (bytes <= 0) return;
    this.#taken += bytes;
    if (this.#isLinked) this.#port.consumed(bytes);
  }

  /** Nothing more can be said to whoever sends. */
  unlink(): void {
    this.#isLinked = false;
  }

  /** Nothing will run: what waits goes. */
  drop(): void {
    this.#early = [];
  }
}
