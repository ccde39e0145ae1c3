import { type ErrorCode, Failure } from '../../shared/errors.ts';
import { ANSWER_GRACE_MS, MAX_FILES_OMITTED, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { CHANNEL, type ExecutionResult, type ExitBody } from '../../shared/messages.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { mayBePlaced, type Placement } from '../clusters/placement.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { AgentMessage } from '../link/link-state.ts';
import type { SlotQueue } from '../queue/slot-queue.ts';
import { exitFault } from './check-exit.ts';
import type { ExecutionOrder } from './execution-order.ts';
import {
  type ExecutionEffect,
  type ExecutionEvent,
  type ExecutionState,
  FIRST_EXECUTION_STATE,
  nextExecution,
  type StopCode,
  startedIn,
} from './execution-state.ts';
import { InputSender } from './input-sender.ts';
import type { MemoryBudget, Reservation } from './memory-budget.ts';
import { OutputReader, type Taken } from './output-reader.ts';
import { type OmittedFile, type ResultFile, ResultFiles } from './result-files.ts';
import { RunClocks } from './run-clocks.ts';
import { RunPhases } from './run-phases.ts';
import { askSister, STATUS_TIMEOUT_MS, sisterLink } from './sister-link.ts';
import { startBodyOf } from './start-body.ts';

/** After CANCEL the agent has this long to say EXIT; then its frames on the stream are dropped. */
const CANCEL_GRACE_MS = 60_000;
const QUEUE_RETRY_MS = 1_000;

export type RunDeps = Pick<
  GatewayDeps,
  'config' | 'now' | 'timers' | 'log' | 'authenticator' | 'ids' | 'fileStore' | 'onExecutionEnd'
> & {
  directory: ClusterDirectory;
  queue: SlotQueue;
  outputMemory: MemoryBudget;
  /** The run is over, and everybody has what they will get. */
  onOver(run: ExecutionRun): void;
};

/** How an execution ended whose code ran. */
export type Ending = {
  executionId: string;
  cluster: string;
  result: ExecutionResult;
  stdoutTruncated: boolean;
  stderrTruncated: boolean;
  files: readonly ResultFile[];
  filesOmitted: readonly OmittedFile[];
  filesOmittedCount: number;
  queueMs: number;
};

/** One execution under way: carries out what `nextExecution` says. Its reader takes output with `next`. */
export class ExecutionRun {
  readonly #deps: RunDeps;
  readonly #order: ExecutionOrder;
  readonly #phases: RunPhases;
  readonly #clocks: RunClocks;
  readonly #memory: Reservation;
  readonly #reader: OutputReader;
  readonly #files: ResultFiles;
  readonly #refused = new Set<string>();
  readonly #received = { stdout: 0, stderr: 0 };
  readonly #opened = Promise.withResolvers<void>();
  #state: ExecutionState = FIRST_EXECUTION_STATE;
  #placement: Placement | undefined;
  #stream = 0;
  #sender: InputSender | undefined;
  #leaveQueue: () => void = () => {};
  #executionId: string | null = null;
  #lastRefusal: Failure | undefined;

  /** Throws where it may not even wait: `rate_limited`, `at_capacity`. */
  constructor(order: ExecutionOrder, deps: RunDeps) {
    this.#deps = deps;
    this.#order = order;
    const { caller } = order.wanted;
    this.#memory = deps.outputMemory.reserve(caller.holder);
    this.hold(STREAM_WINDOW_BYTES);
    this.#phases = new RunPhases(order, deps.now);
    this.#reader = new OutputReader({
      timers: deps.timers,
      consumed: (bytes) => this.#consumed(bytes),
      stalled: () => this.stop('reader_stalled', 'The reader took nothing for too long.'),
      dismissed: () => this.#dismissed(),
    });
    this.#files = new ResultFiles({
      store: deps.fileStore,
      caller,
      maxFileBytes: deps.config.maxFileBytes,
      consumed: (bytes) => this.#consumed(bytes),
    });
    this.#clocks = new RunClocks(deps, {
      answerInMs: order.timeoutMs + order.queueTimeoutMs + ANSWER_GRACE_MS,
      queueInMs: order.queueTimeoutMs,
      caller,
      late: () => this.#late(),
      unplaced: () => this.#unplaced(),
      denied: () => this.stop('unauthorized', 'The key is no longer accepted.'),
    });
    // A refusal before anybody waits for it is not an unhandled rejection.
    this.#opened.promise.catch(() => {});
    try {
      this.#enqueue('end');
    } catch (error) {
      this.#clocks.close();
      this.#memory.release();
      throw error;
    }
  }

  /** Resolves when user code began; rejects with what refused it before. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  /** Whether it waits for a slot. */
  get waiting(): boolean {
    return this.#state.at === 'queued';
  }

  /** Known once opened. */
  get executionId(): string {
    return this.#executionId ?? '';
  }

  /** The next output, the end or the failure; `idle` when nothing came for so long. One reader, one call at a time. */
  next(idleMs?: number): Promise<Taken> {
    return this.#reader.next(idleMs);
  }

  /** Ends it from outside. What was stored is taken back. Idempotent, and nothing once it is over. */
  stop(code: StopCode, detail: string): void {
    this.#apply({ type: 'stop', code, detail });
  }

  /** The caller is gone: nobody reads any more. */
  abandon(): void {
    this.stop('cancelled', 'The caller went away.');
    this.#reader.dismiss();
  }

  /** Runs when the reader is given up: it stalled, then did not even take that news. */
  onDismiss(callback: () => void): void {
    this.#reader.onDismiss = callback;
  }

  /** Takes memory for output that is kept. Throws where the caller's share or the gateway's memory is used up. */
  hold(bytes: number): void {
    const verdict = this.#memory.grow(bytes);
    if (verdict === 'taken') return;
    const started = startedIn(this.#state);
    const options = { retryAfterMs: QUEUE_RETRY_MS, started };
    throw verdict === 'share'
      ? new Failure('rate_limited', 'The output of this key takes up its share of memory.', options)
      : new Failure('at_capacity', 'The gateway has no memory left for output.', options);
  }

  /** `hold` for output on its way: where there is no room the run ends. */
  keep(bytes: number): void {
    try {
      this.hold(bytes);
    } catch (error) {
      this.stop('at_capacity', (error as Failure).detail);
    }
  }

  #apply(event: ExecutionEvent): ErrorCode | null {
    const { state, effects } = nextExecution(this.#state, event);
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
        this.#requeue();
        break;
      case 'elsewhere':
        this.#elsewhere(effect.failure);
        break;
      case 'ask':
        void this.#ask(effect.fence);
        break;
      case 'open':
        this.#phases.mark('started');
        this.#opened.resolve();
        break;
      case 'cancel':
        this.#cancel(effect.reason);
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

  #enqueue(at: 'end' | 'front'): void {
    this.#sender?.stop();
    this.#leaveQueue = this.#deps.queue.request(
      {
        wanted: this.#order.wanted,
        refused: this.#refused,
        placed: (placement) => {
          this.#placement = placement;
          this.#apply({ type: 'placed' });
        },
      },
      at,
    );
  }

  #requeue(): void {
    if (this.#clocks.queueIsOver) this.#unplaced();
    else this.#enqueue('front');
  }

  #elsewhere(failure: Failure): void {
    this.#lastRefusal = failure;
    if (this.#placement) this.#refused.add(this.#placement.instance);
    if (mayBePlaced(this.#deps.directory, this.#order.wanted, this.#refused)) this.#requeue();
    else this.#apply({ type: 'nowhere_else', failure });
  }

  #unplaced(): void {
    const { directory } = this.#deps;
    const { wanted } = this.#order;
    const failure =
      this.#lastRefusal ??
      (mayBePlaced(directory, wanted, this.#refused)
        ? new Failure('at_capacity', 'All sandboxes are taken.', { retryAfterMs: QUEUE_RETRY_MS })
        : new Failure('no_agent', 'The agent went away.', { retryAfterMs: QUEUE_RETRY_MS }));
    this.#apply({ type: 'queue_over', failure });
  }

  async #send(): Promise<void> {
    const placement = this.#placement as Placement;
    const { caller } = this.#order.wanted;
    const { tenant, principalDigest } = caller;
    const { cluster, instance, link } = placement;
    const id = await this.#deps.ids.seal({ kind: 'x', tenant, principalDigest, cluster, instance });
    if (this.#state.at !== 'sent') return placement.release();
    if (!link.joined || link.draining) {
      placement.release();
      this.#apply({ type: 'nack', code: 'draining', detail: 'The agent is leaving.', retryAfterMs: null });
      return;
    }
    this.#executionId = id;
    this.#phases.mark('placed');
    const body = startBodyOf(this.#order, id, cluster, this.#clocks.queueLeftMs());
    const stream = link.start(body, {
      control: (message) => (stream === this.#stream ? this.#control(message) : null),
      data: (channel, bytes) => this.#data(link, stream, channel, bytes),
      room: () => this.#sender?.room(),
      lost: () => void (stream === this.#stream && this.#apply({ type: 'link_lost' })),
    });
    this.#stream = stream;
    this.#sender = new InputSender({
      link,
      stream,
      input: this.#order.input,
      owner: caller.principal,
      store: this.#deps.fileStore,
      failed: (failure) => this.#apply({ type: 'input_failed', failure }),
    });
    this.#sender.start();
  }

  #control(message: AgentMessage): ErrorCode | null {
    switch (message.name) {
      case 'ACCEPT':
        this.#phases.mark('accepted');
        return this.#apply({ type: 'accept' });
      case 'STARTED':
        return this.#apply({ type: 'started' });
      case 'NACK': {
        const { code, detail, retry_after_ms } = message.body;
        return this.#apply({ type: 'nack', code, detail, retryAfterMs: retry_after_ms });
      }
      case 'END':
        if (this.#state.at === 'over') return null;
        if (this.#state.at !== 'started') return 'protocol_error';
        return this.#files.end(message.body) ? null : 'protocol_error';
      case 'EXIT':
        this.#phases.mark('ended');
        return this.#files.unfinished && this.#state.at !== 'over'
          ? 'protocol_error'
          : this.#apply({ type: 'exit', body: message.body });
      default:
        return 'protocol_error';
    }
  }

  #data(link: GatewayLink, stream: number, channel: number, bytes: Uint8Array): ErrorCode | null {
    if (this.#state.at === 'over') {
      // Cancelled: taken and thrown away, so that EXIT comes through.
      link.consumed(stream, bytes.byteLength);
      return null;
    }
    const fault = this.#apply({ type: 'data' });
    if (fault) return fault;
    if (channel === CHANNEL.files) {
      this.#files.data(bytes);
      return null;
    }
    const name = channel === CHANNEL.stdout ? 'stdout' : 'stderr';
    const room = Math.max(0, this.#order.maxOutputBytes - this.#received[name]);
    this.#received[name] += bytes.byteLength;
    // The agent was told the cap; what is over it goes nowhere, whatever it says.
    if (room > 0) this.#reader.push(channel, bytes.byteLength > room ? bytes.subarray(0, room) : bytes);
    if (bytes.byteLength > room) link.consumed(stream, bytes.byteLength - room);
    return null;
  }

  #consumed(bytes: number): void {
    this.#placement?.link.consumed(this.#stream, bytes);
  }

  async #ask(fence: boolean): Promise<void> {
    const answer = await askSister(this.#deps, this.#whereabouts(), fence);
    this.#apply(answer ? { type: 'told', answer } : { type: 'untold' });
  }

  #cancel(reason: string): void {
    const link = this.#placement?.link;
    const stream = this.#stream;
    this.#sender?.stop();
    if (!link || stream === 0) return;
    link.cancel(stream, reason);
    this.#deps.timers.setTimeout(() => link.release(stream), CANCEL_GRACE_MS);
  }

  async #cancelById(reason: string): Promise<void> {
    const link = await sisterLink(this.#deps, this.#whereabouts());
    await link?.cancelExecution(this.executionId, reason, STATUS_TIMEOUT_MS);
  }

  #whereabouts(): { tenant: string; instance: string; executionId: string } {
    const { tenant } = this.#order.wanted.caller;
    return { tenant, instance: this.#placement?.instance ?? '', executionId: this.executionId };
  }

  /** The deadline: while the reader holds bytes back, the reader's own clock counts. */
  #late(): void {
    if (this.#state.at === 'over')
      this.#fail(new Failure('internal', 'The files could not be stored in time.', { started: 'yes' }));
    else if (this.#reader.holdsBack && this.#clocks.extend()) return;
    else this.#apply({ type: 'deadline' });
  }

  async #finish({ result }: ExitBody): Promise<void> {
    if (!result) return;
    const fault = exitFault(result, this.#received);
    if (fault) {
      this.#deps.log({
        level: 'warn',
        event: 'exit_refused',
        detail: fault,
        instance: this.#placement?.instance ?? '',
      });
      this.#fail(
        new Failure('protocol_error', "The agent's report of the end does not hold together.", {
          started: 'yes',
        }),
      );
      return;
    }
    await this.#files.settled();
    if (this.#reader.ended) return;
    this.#clocks.close();
    this.#placement?.link.acknowledge(this.executionId);
    this.#opened.resolve();
    const ending = this.#ending(result);
    this.#record(ending, null);
    this.#reader.end({ type: 'end', ending });
  }

  #ending(result: ExecutionResult): Ending {
    const { maxOutputBytes } = this.#order;
    const cut = (total: number, received: number) => total > Math.min(received, maxOutputBytes);
    const { files, omitted, omittedCount } = this.#files;
    return {
      executionId: this.executionId,
      cluster: this.#placement?.cluster ?? '',
      result,
      stdoutTruncated: result.stdout_truncated || cut(result.stdout_bytes, this.#received.stdout),
      stderrTruncated: result.stderr_truncated || cut(result.stderr_bytes, this.#received.stderr),
      files: [...files],
      filesOmitted: [...omitted, ...result.files_omitted].slice(0, MAX_FILES_OMITTED),
      filesOmittedCount: omittedCount + Math.max(result.files_omitted_count, result.files_omitted.length),
      queueMs: this.#phases.queueMs ?? 0,
    };
  }

  #fail(failure: Failure): void {
    if (this.#reader.ended) return;
    this.#leaveQueue();
    this.#sender?.stop();
    this.#clocks.close();
    this.#opened.reject(failure);
    this.#record(null, failure);
    void this.#files.discard();
    this.#reader.end({ type: 'failed', failure });
  }

  #record(ending: Ending | null, failure: Failure | null): void {
    const { received } = { received: this.#received };
    const files = { count: this.#files.files.length, bytes: this.#files.storedBytes };
    const { cluster = null, instance = null } = this.#placement ?? {};
    const facts = { executionId: this.#executionId, cluster, instance, attempts: this.#state.attempts };
    void this.#phases
      .record({ ...facts, ending, failure, received, files })
      .then((record) => this.#deps.onExecutionEnd(record));
  }

  #dismissed(): void {
    this.#memory.release();
    this.#order.release();
    this.#deps.onOver(this);
  }
}
