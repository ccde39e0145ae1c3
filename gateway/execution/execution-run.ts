import { type ErrorCode, Failure } from '../../shared/errors.ts';
import { ANSWER_GRACE_MS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { ExecutionResult, ExitBody } from '../../shared/messages.ts';
import type { SessionWork } from '../../shared/session-messages.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import type { Placement } from '../clusters/placement.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { SlotQueue } from '../queue/slot-queue.ts';
import { sessionWorkOf } from '../sessions/session-order.ts';
import { SessionSearch } from '../sessions/session-search.ts';
import { AgentStream, type AgentStreamOptions } from './agent-stream.ts';
import type { ExecutionOrder } from './execution-order.ts';
import {
  type ExecutionEffect,
  type ExecutionEvent,
  type ExecutionState,
  FIRST_EXECUTION_STATE,
  nextExecution,
  type StopCode,
} from './execution-state.ts';
import { type ClaimAsk, claimKey, type KeyOrder, releaseKey } from './key-claim.ts';
import { type MemoryBudget, noMemory, type Reservation } from './memory-budget.ts';
import type { OutputSource, Taken } from './output-reader.ts';
import type { ResultShelf, StoredFiles } from './result-shelf.ts';
import { RunClocks } from './run-clocks.ts';
import { type OutputEnding, RunOutput } from './run-output.ts';
import { RunPhases } from './run-phases.ts';
import { askSister, CANCEL_TIMEOUT_MS, sisterLink } from './sister-link.ts';
import { type Search, SlotSearch } from './slot-search.ts';
import { startBodyOf } from './start-body.ts';

export type RunDeps = Pick<
  GatewayDeps,
  'config' | 'now' | 'timers' | 'log' | 'authenticator' | 'ids' | 'fileStore' | 'onExecutionEnd'
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

/** How an execution ended whose code ran. */
export type Ending = OutputEnding & {
  executionId: string;
  cluster: string;
  result: ExecutionResult;
  queueMs: number;
};

/** One execution under way: carries out what `nextExecution` says. Its reader takes output with `next`. */
export class ExecutionRun implements OutputSource {
  readonly #deps: RunDeps;
  readonly #order: ExecutionOrder;
  readonly #phases: RunPhases;
  readonly #clocks: RunClocks;
  readonly #memory: Reservation;
  readonly #output: RunOutput;
  readonly #search: Search;
  readonly #opened = Promise.withResolvers<void>();
  #state: ExecutionState = FIRST_EXECUTION_STATE;
  #placement: Placement | undefined;
  /** Of the placement; undefined until START went out on it. */
  #stream: AgentStream | undefined;
  #executionId: string | null = null;
  #session: SessionWork | undefined;
  #isRead = true;
  #claimed: ClaimAsk | undefined;
  readonly #ended = new AbortController();
  #filesStored: PromiseWithResolvers<StoredFiles | null> | undefined;

  /** Throws where it may not even wait: `rate_limited`, `at_capacity`. */
  constructor(order: ExecutionOrder, deps: RunDeps) {
    this.#deps = deps;
    this.#order = order;
    const { caller } = order.wanted;
    this.#memory = deps.outputMemory.reserve(caller.holder);
    this.#phases = new RunPhases(order, deps.now);
    this.#output = new RunOutput({
      ...deps,
      caller,
      maxOutputBytes: order.maxOutputBytes,
      consumed: (bytes) => this.#stream?.consumed(bytes),
      stalled: () => this.#stalled(),
      dismissed: () => this.#dismissed(),
      keepDocument: order.document ? (bytes) => this.keep(bytes) : undefined,
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
      placed: (placement: Placement) => this.#placed(placement),
      apply: (event: ExecutionEvent) => void this.#apply(event),
    };
    this.#search =
      order.session?.do === 'work'
        ? new SessionSearch({ ...deps, ...order.session, ...found, caller })
        : new SlotSearch({ ...deps, ...found, wanted: order.wanted, clocks: this.#clocks });
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
    return at === 'queued' || (at === 'sent' && this.#stream === undefined);
  }

  /** Known once opened. */
  get executionId(): string {
    return this.#executionId ?? '';
  }

  /** Of the session that it opened or ran in; empty before START went out. */
  get sessionId(): string {
    return this.#session?.id ?? '';
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
    this.#filesStored ??= Promise.withResolvers();
    return this.#filesStored.promise;
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

  #apply(event: ExecutionEvent): ErrorCode | null {
    const { state, effects } = nextExecution(this.#state, event);
    if (state.at !== this.#state.at) this.#phases.enter(state.at);
    this.#state = state;
    let fault: ErrorCode | null = null;
    for (const effect of effects) {
      if (effect.do === 'fault') fault = 'protocol_error';
      else this.#carryOut(effect);
    }
    return fault;
  }

  #carryOut(effect: Exclude<ExecutionEffect, { do: 'fault' }>): void {
    switch (effect.do) {
      case 'send':
        void this.#send();
        break;
      case 'requeue':
        this.#search.again();
        break;
      case 'elsewhere':
        this.#search.elsewhere(this.#placement?.instance ?? '', effect.failure);
        break;
      case 'ask':
        void this.#ask(effect.fence);
        break;
      case 'attach':
        void this.#attach();
        break;
      case 'open':
        this.#opened.resolve();
        break;
      case 'cancel':
        this.#stream?.cancel(effect.reason);
        break;
      case 'leave':
        this.#stream?.detach();
        break;
      case 'cancel_by_id':
        void this.#cancelById(effect.reason);
        break;
      case 'finish':
        void this.#finish(effect.body);
        break;
      case 'fail':
        this.#fail(effect.failure);
        break;
    }
  }

  #placed(placement: Placement): void {
    const verdict = this.#placement ? 'taken' : this.#memory.grow(STREAM_WINDOW_BYTES);
    this.#placement = placement;
    this.#stream = undefined;
    if (verdict === 'taken') {
      this.#apply({ type: 'placed' });
      return;
    }
    placement.release();
    this.#apply({ type: 'queue_over', failure: noMemory(verdict) });
  }

  async #send(): Promise<void> {
    const placement = this.#placement as Placement;
    const { caller } = this.#order.wanted;
    const { tenant, principalDigest } = caller;
    const { cluster, instance, link } = placement;
    const parts = { kind: 'x', tenant, principalDigest, cluster, instance } as const;
    const id = await this.#deps.ids.seal(parts).catch((cause: unknown) => {
      const failure = new Failure('internal', 'No id could be made for this execution.', { cause });
      this.#apply({ type: 'input_failed', failure });
      return '';
    });
    const { session } = this.#order;
    if (session && id !== '') this.#session = await sessionWorkOf(session, parts, this.#deps.ids);
    const { key } = this.#order;
    if (key && id !== '' && !(await this.#claim(key, id, placement))) return placement.release();
    if (this.#state.at !== 'sent') return placement.release();
    if (!link.joined || link.draining) {
      placement.release();
      this.#apply({ type: 'nack', code: 'draining', detail: 'The agent is leaving.', retryAfterMs: null });
      return;
    }
    // An earlier attempt's: it did not run.
    if (this.#executionId !== null) this.#deps.shelf.end(this.#executionId, null);
    this.#executionId = id;
    this.#phases.mark('placed');
    const queueMs = this.#phases.queueMs ?? 0;
    this.#stream = AgentStream.start(
      this.#streamOn(link),
      startBodyOf(this.#order, id, cluster, this.#clocks.queueLeftMs(), queueMs, this.#session),
      { input: this.#order.input, owner: caller.principal, store: this.#deps.fileStore },
    );
    this.#deps.shelf.begin(id, this);
    this.#deps.onSent(this);
  }

  /** False where it may not begin. */
  async #claim(key: KeyOrder, executionId: string, { cluster }: Placement): Promise<boolean> {
    const { wanted, timeoutMs } = this.#order;
    const { tenant } = wanted.caller;
    const replaces = this.#claimed?.executionId ?? null;
    const waitMs = this.#clocks.queueLeftMs();
    const keepMs = timeoutMs + waitMs;
    const ask = { tenant, cluster, executionId, key, replaces, keepMs, waitMs, signal: this.#ended.signal };
    this.#claimed = ask;
    try {
      const other = await claimKey(this.#deps, ask);
      if (other === null) return true;
      key.found(other);
      const failure = new Failure('duplicate', 'Another gateway has begun what this key stands for.');
      this.#apply({ type: 'input_failed', failure });
    } catch (error) {
      const failure =
        error instanceof Failure ? error : new Failure('internal', 'Podgate failed.', { cause: error });
      this.#apply({ type: 'input_failed', failure });
    }
    return false;
  }

  #streamOn(link: GatewayLink): AgentStreamOptions {
    return {
      link,
      timers: this.#deps.timers,
      output: this.#output,
      apply: (event) => this.#apply(event),
      phase: () => (this.#state.at === 'started' ? 'running' : this.#state.at === 'over' ? 'over' : 'before'),
    };
  }

  async #attach(): Promise<void> {
    const link = await sisterLink(this.#deps, this.#whereabouts());
    if (this.#state.at !== 'attaching') return;
    // Found in an earlier turn, it may be gone in this one.
    if (link && !link.joined) void this.#attach();
    else if (link) this.#stream = AgentStream.attach(this.#streamOn(link), this.executionId, null);
    else this.#apply({ type: 'untold' });
  }

  async #ask(fence: boolean): Promise<void> {
    const answer = await askSister(this.#deps, this.#whereabouts(), fence);
    this.#apply(answer ? { type: 'told', answer } : { type: 'untold' });
  }

  async #cancelById(reason: string): Promise<void> {
    const link = await sisterLink(this.#deps, this.#whereabouts());
    await link?.cancelExecution(this.executionId, reason, CANCEL_TIMEOUT_MS);
  }

  /** Its output may go at the agent. Over any link: the stream's own may have been lost since. */
  #acknowledge(): void {
    const { tenant, instance, executionId } = this.#whereabouts();
    const own = this.#placement?.link;
    const link = own?.joined ? own : this.#deps.directory.linkTo(tenant, instance);
    link?.acknowledge(executionId);
  }

  #whereabouts(): { tenant: string; instance: string; executionId: string } {
    const { tenant } = this.#order.wanted.caller;
    return { tenant, instance: this.#placement?.instance ?? '', executionId: this.executionId };
  }

  /** The deadline: while the reader holds bytes back, the reader's own clock counts. */
  #late(): void {
    if (this.#state.at === 'over')
      this.#fail(new Failure('internal', 'The files could not be stored in time.', { started: 'yes' }));
    else if (this.#output.reader.heldBack() && this.#clocks.extend()) return;
    else this.#apply({ type: 'deadline' });
  }

  async #finish({ result }: ExitBody): Promise<void> {
    if (!result) return;
    try {
      const output = await this.#output.settle(result);
      if (this.#output.reader.ended) return;
      this.#clocks.close();
      // Whoever was told its id before its end, or has a key, may come back for what it said.
      if (!this.#order.streamed && !this.#order.survives) this.#acknowledge();
      this.#shelve(output);
      const { cluster = '' } = this.#placement ?? {};
      const { executionId } = this;
      const ending = { executionId, cluster, result, queueMs: this.#phases.queueMs ?? 0, ...output };
      this.#record(ending, null);
      this.#order.onSettled?.(null);
      this.#output.reader.end({ type: 'end', ending });
    } catch (failure) {
      this.#logLie(failure as Failure);
      this.#fail(failure as Failure);
    }
  }

  #fail(failure: Failure): void {
    if (this.#output.reader.ended) return;
    this.#search.stop();
    this.#stream?.stopInput();
    this.#clocks.close();
    this.#opened.reject(failure);
    this.#ended.abort();
    // It did not begin, and will not: its key is free again.
    if (failure.started === 'no' && this.#claimed) releaseKey(this.#deps, this.#claimed);
    this.#record(null, failure);
    this.#order.onSettled?.(failure);
    this.#shelve(null);
    this.#output.discard();
    this.#output.reader.end({ type: 'failed', failure });
  }

  #shelve(stored: StoredFiles | null): void {
    const isOfSession = this.#order.session !== undefined;
    if (this.#executionId !== null) this.#deps.shelf.end(this.#executionId, stored, isOfSession);
    this.#filesStored?.resolve(stored);
  }

  /** A reader that takes nothing is as good as gone. */
  #stalled(): void {
    if (this.#order.survives) {
      this.abandon();
      this.#output.reader.onDismiss();
    } else this.stop('reader_stalled', 'The reader took nothing for too long.');
  }

  #record(ending: Ending | null, failure: Failure | null): void {
    const { received, stored } = this.#output;
    const { cluster = null, instance = null } = this.#placement ?? {};
    const { attempts } = this.#state;
    void this.#phases
      .record({
        executionId: this.#executionId,
        cluster,
        instance,
        attempts,
        ending,
        failure,
        received,
        stored,
      })
      .then((record) => this.#deps.onExecutionEnd(record))
      .catch((cause: unknown) =>
        this.#deps.log({ level: 'error', event: 'record_lost', cause: String(cause).slice(0, 500) }),
      );
  }

  #logLie({ cause }: Failure): void {
    const { instance = '' } = this.#placement ?? {};
    this.#deps.log({ level: 'warn', event: 'exit_refused', detail: String(cause), instance });
  }

  #dismissed(): void {
    this.#memory.release();
    this.#order.release();
    this.#deps.onOver(this);
  }
}
