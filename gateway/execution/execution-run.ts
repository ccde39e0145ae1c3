import { type ErrorCode, Failure } from '../../shared/errors.ts';
import { ANSWER_GRACE_MS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { ExecutionResult } from '../../shared/messages.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import type { Placement } from '../clusters/placement.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { toFailure } from '../http/problem-response.ts';
import { type MemoryBudget, noMemory } from '../memory-budget.ts';
import type { SlotQueue } from '../queue/slot-queue.ts';
import { SessionSearch } from '../sessions/session-search.ts';
import { carryOutAll } from './carry-out.ts';
import type { ExecutionEvent, StopCode } from './execution-event.ts';
import type { ExecutionOrder } from './execution-order.ts';
import {
  type ExecutionEffect,
  type ExecutionState,
  FIRST_EXECUTION_STATE,
  nextExecution,
} from './execution-state.ts';
import { unknownKey } from './key-claim.ts';
import { OutputMemory } from './output-memory.ts';
import type { OutputSource, Taken } from './output-reader.ts';
import type { ResultShelf, StoredFiles } from './result-shelf.ts';
import { RunAtAgent } from './run-at-agent.ts';
import { RunClocks } from './run-clocks.ts';
import { RunEnding, type RunWhere } from './run-ending.ts';
import { RunOutput } from './run-output.ts';
import { RunPhases } from './run-phases.ts';
import { type Search, SlotSearch } from './slot-search.ts';

export type RunDeps = Pick<
  GatewayDeps,
  'config' | 'now' | 'elapsed' | 'timers' | 'log' | 'authenticator' | 'ids' | 'fileStore' | 'onExecutionEnd'
> & {
  directory: ClusterDirectory;
  queue: SlotQueue;
  outputMemory: MemoryBudget;
  shelf: ResultShelf;
  /** START went out. It may happen again, elsewhere. */
  onSent(run: ExecutionRun): void;
  /** The run is over, and everybody has what they will get. */
  onOver(run: ExecutionRun): void;
};

/** One execution under way: carries out what `nextExecution` says. Its reader takes output with `next`. */
export class ExecutionRun implements OutputSource {
  readonly #deps: RunDeps;
  readonly #order: ExecutionOrder;
  readonly #phases: RunPhases;
  readonly #clocks: RunClocks;
  readonly #memory: OutputMemory;
  readonly #output: RunOutput;
  readonly #search: Search;
  readonly #agent: RunAtAgent;
  readonly #ending: RunEnding;
  readonly #opened = Promise.withResolvers<void>();
  #state: ExecutionState = FIRST_EXECUTION_STATE;
  #isRead = true;

  /** Throws where it may not even wait: `rate_limited`, `at_capacity`. */
  constructor(order: ExecutionOrder, deps: RunDeps) {
    this.#deps = deps;
    this.#order = order;
    const { caller } = order.wanted;
    this.#memory = new OutputMemory(deps.outputMemory, caller);
    this.#phases = new RunPhases(order, deps);
    this.#output = new RunOutput({
      ...deps,
      caller,
      maxOutputBytes: order.maxOutputBytes,
      consumed: (bytes) => this.#agent.consumed(bytes),
      stalled: () => this.#stalled(),
      dismissed: () => this.#dismissed(),
      document: order.document,
      keep: (bytes) => this.keep(bytes),
    });
    this.#clocks = new RunClocks(deps, {
      answerInMs: order.timeoutMs + order.queueTimeoutMs + ANSWER_GRACE_MS,
      queueInMs: order.queueTimeoutMs,
      caller,
      late: () => this.#late(),
      unplaced: () => this.#search.timeOut(),
      denied: () => this.stop('unauthorized', 'The key is no longer accepted.'),
    });
    const found = {
      clocks: this.#clocks,
      placed: (placement: Placement) => this.#placed(placement),
      apply: (event: ExecutionEvent) => void this.#apply(event),
    };
    this.#search =
      order.session?.do === 'work'
        ? new SessionSearch({ ...deps, ...order.session, ...found, caller })
        : new SlotSearch({ ...deps, ...found, order });
    const parts = { order, phases: this.#phases, output: this.#output };
    this.#agent = new RunAtAgent(deps, {
      ...parts,
      queueLeftMs: () => this.#clocks.queueLeftMs(),
      at: () => this.#state.at,
      apply: (event) => this.#apply(event),
      sent: (executionId) => {
        deps.shelf.begin(executionId, this);
        deps.onSent(this);
      },
    });
    this.#ending = new RunEnding(deps, parts);
    // A refusal before anybody waits for it is not an unhandled rejection.
    this.#opened.promise.catch(() => {});
    try {
      this.#search.begin();
    } catch (error) {
      this.#clocks.close();
      throw error;
    }
  }

  /** Resolves when user code began; rejects with what refused it before. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  /** Whether it waits for a slot, or has one and START has not gone out. */
  get waiting(): boolean {
    const { at } = this.#state;
    return at === 'queued' || at === 'placed';
  }

  /** Known once opened. */
  get executionId(): string {
    return this.#agent.executionId ?? '';
  }

  /** Of the session that it opened or ran in; empty before START went out. */
  get sessionId(): string {
    return this.#agent.sessionId ?? '';
  }

  /** The next output, the end or the failure; `idle` when nothing came for so long. One reader, one call at a time. */
  next(idleMs?: number): Promise<Taken> {
    return this.#output.reader.next(idleMs);
  }

  /** Ends it from outside. What was stored is taken back. Idempotent, and nothing once it is over. */
  stop(code: StopCode, detail: string): void {
    this.#apply({ type: 'stop', code, detail });
  }

  /** The caller is gone: nobody reads any more. */
  abandon(): void {
    this.#memory.letGo();
    if (this.#order.survives) {
      this.#isRead = false;
      this.#output.reader.ignore();
      return;
    }
    this.stop('cancelled', 'The caller went away.');
    this.#output.reader.dismiss();
  }

  /** This gateway goes. What can go on without it does; the rest is ended. */
  part(detail: string): void {
    if (this.#order.survives) this.#apply({ type: 'part', detail });
    else this.stop('draining', detail);
  }

  /** Whether somebody is there who would lose by it if this gateway went. */
  get isRead(): boolean {
    return this.#isRead;
  }

  /** What becomes of its files; null where they are not stored, or not any more. */
  get storedFiles(): Promise<StoredFiles | null> {
    return this.#ending.storedFiles;
  }

  /** Runs when the reader is given up: it stalled, then did not even take that news. */
  onDismiss(callback: () => void): void {
    this.#output.reader.onDismiss = callback;
  }

  /** Takes memory for output that is kept to the end. Where there is none the run ends. */
  keep(bytes: number): void {
    const verdict = this.#memory.grow(bytes);
    if (verdict !== 'taken') this.stop('at_capacity', noMemory(verdict).detail);
  }

  hold(): () => void {
    this.#memory.hold();
    return () => this.#memory.letGo();
  }

  #apply(event: ExecutionEvent): ErrorCode | null {
    const { state, effects } = nextExecution(this.#state, event);
    if (state.at !== this.#state.at) this.#phases.enter(state.at);
    this.#state = state;
    return carryOutAll(effects, (effect) => this.#carryOut(effect));
  }

  #carryOut(effect: Exclude<ExecutionEffect, { do: 'fault' }>): void {
    switch (effect.do) {
      case 'requeue':
        this.#search.again(this.#agent.instance, effect.failure);
        break;
      case 'elsewhere':
        this.#search.elsewhere(this.#agent.instance, effect.failure);
        break;
      case 'open':
        this.#opened.resolve();
        break;
      case 'finish':
        void this.#finish(effect.result);
        break;
      case 'fail':
        this.#fail(effect.failure);
        break;
      default:
        this.#agent.carryOut(effect);
    }
  }

  #placed(placement: Placement): void {
    const verdict = this.#agent.placed ? 'taken' : this.#memory.grow(STREAM_WINDOW_BYTES);
    this.#agent.place(placement);
    if (verdict === 'taken') {
      this.#apply({ type: 'placed' });
      return;
    }
    placement.release();
    this.#apply({ type: 'queue_over', failure: noMemory(verdict) });
  }

  /** The deadline: while the reader holds bytes back, the reader's own clock counts. */
  #late(): void {
    if (this.#state.at === 'over')
      this.#fail(new Failure('internal', 'The files could not be stored in time.', { started: 'yes' }));
    else if (this.#output.reader.heldBack() && this.#clocks.extend()) return;
    else if (this.#agent.claims) this.#apply({ type: 'input_failed', failure: unknownKey() });
    else this.#apply({ type: 'deadline' });
  }

  async #finish(result: ExecutionResult): Promise<void> {
    try {
      const output = await this.#output.settle(result);
      if (this.#output.reader.ended) return;
      this.#clocks.close();
      // Whoever was told its id before its end, or has a key, may come back for what it said.
      if (!this.#order.streamed && !this.#order.survives) this.#agent.acknowledge();
      this.#ending.finish(this.#where(), result, output);
    } catch (error) {
      const failure = toFailure(error);
      if (failure.code === 'protocol_error') this.#ending.logLie(this.#where(), failure);
      this.#fail(failure);
    }
  }

  #fail(failure: Failure): void {
    if (this.#output.reader.ended) return;
    this.#search.stop();
    this.#agent.end(failure.started);
    this.#clocks.close();
    this.#opened.reject(failure);
    this.#ending.fail(this.#where(), failure);
  }

  #where(): RunWhere {
    return { ...this.#agent.where, attempts: this.#state.attempts };
  }

  /** A reader that takes nothing is as good as gone. */
  #stalled(): void {
    if (this.#order.survives) {
      this.abandon();
      this.#output.reader.onDismiss();
    } else this.stop('reader_stalled', 'The reader took nothing for too long.');
  }

  #dismissed(): void {
    this.#memory.end();
    this.#order.release();
    this.#deps.onOver(this);
  }
}
