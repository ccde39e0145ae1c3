import type { ErrorCode, Failure } from '../../shared/errors.ts';
import type { IdParts } from '../../shared/ids.ts';
import { toBase64Url } from '../../shared/jose.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { ExecutionResult } from '../../shared/messages.ts';
import type { Caller } from '../auth/caller.ts';
import { watchKey } from '../auth/watch-key.ts';
import { notHere } from '../clusters/ask-instance.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { toFailure } from '../http/problem-response.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import { type MemoryBudget, noMemory } from '../memory-budget.ts';
import { AgentStream } from './agent-stream.ts';
import { carryOutAll } from './carry-out.ts';
import type { ReceivedBytes } from './check-exit.ts';
import type { ExecutionEvent, StopCode } from './execution-event.ts';
import { FIRST_FOLLOW_STATE, type FollowEffect, type FollowState, nextFollow } from './follow-state.ts';
import { OutputMemory } from './output-memory.ts';
import type { OutputSource, Taken } from './output-reader.ts';
import type { ResultShelf, StoredFiles } from './result-shelf.ts';
import { RunOutput } from './run-output.ts';
import { joinedSister, OPEN_TIMEOUT_MS } from './sister-link.ts';

const READER_BYTES = 12;

export type FollowDeps = Pick<
  GatewayDeps,
  'config' | 'now' | 'timers' | 'log' | 'random' | 'authenticator' | 'fileStore'
> & {
  directory: ClusterDirectory;
  outputMemory: MemoryBudget;
  shelf: ResultShelf;
  /** It is over, and its reader has what it will get. */
  onOver(follower: ExecutionFollower): void;
};

export type FollowOrder = {
  executionId: string;
  /** Of its id. */
  parts: IdParts;
  caller: Caller;
  /** Bytes that its reader has already. */
  from: ReceivedBytes;
  /** Whoever has read under this name is replaced; by default a name of its own. */
  reader?: string;
};

/** Reads an execution that is under way or over at its agent: all of it, or from where its reader stopped. */
export class ExecutionFollower implements OutputSource {
  readonly #deps: FollowDeps;
  readonly #order: FollowOrder;
  readonly #reader: string;
  readonly #memory: OutputMemory;
  readonly #output: RunOutput;
  /** Where somebody else stores its files. */
  readonly #stored: Promise<StoredFiles | null> | undefined;
  readonly #opened = Promise.withResolvers<void>();
  readonly #unwatch: () => void;
  /** Until its stream was taken or refused. */
  #openTimer: unknown;
  #state: FollowState = FIRST_FOLLOW_STATE;
  #stream: AgentStream | undefined;
  #queueMs = 0;
  /** Of Python of a session. */
  #context: string | undefined;

  /** Throws `no_agent` where its instance has no link here, and what stands in the way of memory. */
  constructor(order: FollowOrder, deps: FollowDeps) {
    const { executionId, parts, caller, from } = order;
    const link = deps.directory.linkTo(parts);
    if (!link) throw notHere('execution');
    this.#deps = deps;
    this.#order = order;
    this.#reader = order.reader ?? toBase64Url(deps.random(READER_BYTES));
    this.#memory = new OutputMemory(deps.outputMemory, caller);
    const verdict = this.#memory.grow(STREAM_WINDOW_BYTES);
    if (verdict !== 'taken') throw noMemory(verdict);
    this.#stored = deps.shelf.find(caller.tenant, executionId);
    this.#output = new RunOutput({
      ...deps,
      caller,
      from,
      isStoring: this.#stored === undefined,
      maxOutputBytes: Number.POSITIVE_INFINITY,
      keep: (bytes) => this.keep(bytes),
      consumed: (bytes) => this.#stream?.consumed(bytes),
      stalled: () => this.stop('reader_stalled', 'The reader took nothing for too long.'),
      dismissed: () => this.#dismissed(),
    });
    this.#opened.promise.catch(() => {});
    this.#unwatch = watchKey(deps, caller, () => this.stop('unauthorized', 'The key is no longer accepted.'));
    this.#armOpen();
    this.#attachTo(link);
  }

  get executionId(): string {
    return this.#order.executionId;
  }

  /** Resolves once there is such an execution; rejects with what is in the way. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  next(idleMs?: number): Promise<Taken> {
    return this.#output.reader.next(idleMs);
  }

  keep(bytes: number): void {
    const verdict = this.#memory.grow(bytes);
    if (verdict !== 'taken') this.stop('at_capacity', noMemory(verdict).detail);
  }

  hold(): () => void {
    this.#memory.hold();
    return () => this.#memory.letGo();
  }

  abandon(): void {
    this.#memory.letGo();
    this.stop('cancelled', 'The reader went away.');
    this.#output.reader.dismiss();
  }

  onDismiss(callback: () => void): void {
    this.#output.reader.onDismiss = callback;
  }

  /** Ends the reading, and not the execution. Idempotent. */
  stop(code: StopCode, detail: string): void {
    this.#apply({ type: 'stop', code, detail });
  }

  #apply(event: ExecutionEvent): ErrorCode | null {
    const { state, effects } = nextFollow(this.#state, event);
    this.#state = state;
    return carryOutAll(effects, (effect) => this.#carryOut(effect));
  }

  #carryOut(effect: Exclude<FollowEffect, { do: 'fault' }>): void {
    switch (effect.do) {
      case 'attach':
        this.#armOpen();
        void this.#attach();
        break;
      case 'open':
        this.#deps.timers.clearTimeout(this.#openTimer);
        this.#opened.resolve();
        break;
      case 'leave':
        this.#stream?.detach();
        break;
      case 'finish':
        void this.#finish(effect.result);
        break;
      case 'fail':
        this.#fail(effect.failure);
        break;
    }
  }

  /** Again whenever its link was lost: an agent that answered once may not answer the next time. */
  #armOpen(): void {
    const { timers } = this.#deps;
    timers.clearTimeout(this.#openTimer);
    this.#openTimer = timers.setTimeout(
      () => this.stop('deadline_exceeded', 'The agent did not answer in time.'),
      OPEN_TIMEOUT_MS,
    );
  }

  async #attach(): Promise<void> {
    const where = { ...this.#order.parts, executionId: this.executionId };
    const link = await joinedSister(this.#deps, where, () => this.#state.at === 'attaching');
    if (this.#state.at !== 'attaching') return;
    if (link) this.#attachTo(link);
    else this.#apply({ type: 'untold' });
  }

  #attachTo(link: GatewayLink): void {
    this.#stream = AgentStream.attach(
      {
        link,
        timers: this.#deps.timers,
        output: this.#output,
        apply: (event) => this.#apply(event),
        phase: () => this.#phase(),
        attached: ({ max_output_bytes, queue_ms, rich, context }) => {
          if (rich) this.#output.expectDocument('before_files');
          if (context !== undefined) this.#output.expectDocument('in_place_of_files');
          this.#context = context;
          this.#output.maxOutputBytes = max_output_bytes;
          this.#queueMs = queue_ms;
        },
        gap: (channel, from, to) => this.#output.gap({ channel: channel as 1 | 2 | 3, from, to }),
      },
      this.executionId,
      this.#reader,
    );
  }

  #phase(): 'before' | 'running' | 'over' {
    if (this.#state.at === 'over') return 'over';
    return this.#state.at === 'attached' && this.#state.started ? 'running' : 'before';
  }

  async #finish(result: ExecutionResult): Promise<void> {
    try {
      const output = await this.#output.settle(result);
      const stored = this.#output.hasFiles ? await this.#stored : null;
      if (this.#output.reader.ended) return;
      const { cluster } = this.#order.parts;
      const ending = {
        executionId: this.executionId,
        cluster,
        result,
        queueMs: this.#queueMs,
        context: this.#context,
      };
      if (!this.#stored) this.#deps.shelf.end(this.#order.caller.tenant, this.executionId, output);
      this.#output.reader.end({ type: 'end', ending: { ...ending, ...output, ...stored } });
    } catch (error) {
      this.#fail(toFailure(error));
    }
  }

  #fail(failure: Failure): void {
    if (this.#output.reader.ended) return;
    this.#deps.timers.clearTimeout(this.#openTimer);
    this.#opened.reject(failure);
    this.#output.discard();
    this.#output.reader.end({ type: 'failed', failure });
  }

  #dismissed(): void {
    this.#unwatch();
    this.#memory.end();
    this.#deps.onOver(this);
  }
}
