import type { Caller } from '../auth/caller.ts';
import { watchKey } from '../auth/watch-key.ts';
import type { GatewayDeps } from '../gateway-deps.ts';

/** What a reader that is slow, but reads, may take beyond the deadline. */
const MAX_DRAIN_MS = 60_000;
const EXTEND_MS = 1_000;

export type RunClocksOptions = {
  answerInMs: number;
  queueInMs: number;
  caller: Caller;
  /** The answer is due. */
  late(): void;
  /** No slot within the queue timeout. May be called when there is one: the state knows. */
  unplaced(): void;
  /** The key ended or was revoked. */
  denied(): void;
};

/** The clocks of one execution that are the gateway's: the queue's, the answer's, the key's. */
export class RunClocks {
  readonly #deps: Pick<GatewayDeps, 'elapsed' | 'timers'>;
  readonly #options: RunClocksOptions;
  readonly #unwatchKey: () => void;
  readonly #queueEndsMs: number;
  readonly #answerDueMs: number;
  #queueTimer: unknown;
  #timer: unknown;
  #closed = false;

  constructor(
    deps: Pick<GatewayDeps, 'now' | 'elapsed' | 'timers' | 'authenticator'>,
    options: RunClocksOptions,
  ) {
    this.#deps = deps;
    this.#options = options;
    const nowMs = deps.elapsed();
    this.#queueEndsMs = nowMs + options.queueInMs;
    this.#answerDueMs = nowMs + options.answerInMs;
    this.#queueTimer = deps.timers.setTimeout(() => options.unplaced(), options.queueInMs);
    this.#wind();
    this.#unwatchKey = watchKey(deps, options.caller, () => options.denied());
  }

  get queueIsOver(): boolean {
    return this.#deps.elapsed() >= this.#queueEndsMs;
  }

  queueLeftMs(): number {
    return Math.max(0, Math.round(this.#queueEndsMs - this.#deps.elapsed()));
  }

  /** A little more time for a reader that holds the execution back; false when it has had all there is. */
  extend(): boolean {
    if (this.#closed || this.#deps.elapsed() >= this.#answerDueMs + MAX_DRAIN_MS) return false;
    this.#timer = this.#deps.timers.setTimeout(() => this.#ring(), EXTEND_MS);
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#deps.timers.clearTimeout(this.#queueTimer);
    this.#deps.timers.clearTimeout(this.#timer);
    this.#unwatchKey();
  }

  #wind(): void {
    const { elapsed, timers } = this.#deps;
    this.#timer = timers.setTimeout(() => this.#ring(), Math.max(0, this.#answerDueMs - elapsed()));
  }

  #ring(): void {
    if (this.#deps.elapsed() >= this.#answerDueMs) this.#options.late();
    // A timer may run a little early.
    else this.#wind();
  }
}
