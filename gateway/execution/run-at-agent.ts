import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import type { Placement } from '../clusters/placement.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import { AgentStream, type AgentStreamOptions } from './agent-stream.ts';
import type { ExecutionEvent } from './execution-event.ts';
import type { ExecutionOrder } from './execution-order.ts';
import type { ExecutionEffect, ExecutionState } from './execution-state.ts';
import type { ResultShelf } from './result-shelf.ts';
import type { RunWhere } from './run-ending.ts';
import type { RunOutput } from './run-output.ts';
import type { RunPhases } from './run-phases.ts';
import { RunStart, type StartParts } from './run-start.ts';
import { askSister, CANCEL_TIMEOUT_MS, joinedSister, sisterLink, type Whereabouts } from './sister-link.ts';
import { startBodyOf } from './start-body.ts';

/** Effects that concern the agent. */
export type AgentEffect = Extract<
  ExecutionEffect,
  { do: 'send' | 'ask' | 'attach' | 'cancel' | 'leave' | 'cancel_by_id' }
>;

export type RunAtAgentDeps = Pick<GatewayDeps, 'timers' | 'ids' | 'fileStore'> & {
  directory: ClusterDirectory;
  shelf: ResultShelf;
};
export type RunAtAgentOptions = {
  order: ExecutionOrder;
  phases: RunPhases;
  output: RunOutput;
  queueLeftMs(): number;
  at(): ExecutionState['at'];
  apply(event: ExecutionEvent): ReturnType<AgentStreamOptions['apply']>;
  /** START is about to go out, and what comes back is this execution's. */
  sent(executionId: string): void;
};

/** One run's place at an agent, over all its attempts: the stream there, and what is asked over other links. */
export class RunAtAgent {
  readonly #deps: RunAtAgentDeps;
  readonly #options: RunAtAgentOptions;
  readonly #start: RunStart;
  #placement: Placement | undefined;
  /** Of the placement; undefined until START went out on it. */
  #stream: AgentStream | undefined;
  /** Of the last START. */
  #parts: StartParts | undefined;

  constructor(deps: RunAtAgentDeps, options: RunAtAgentOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#start = new RunStart(deps, options.order, options.queueLeftMs);
  }

  /** A slot was ever taken for it. */
  get placed(): boolean {
    return this.#placement !== undefined;
  }

  /** What its key stands for is being asked. */
  get claims(): boolean {
    return this.#start.claims;
  }

  get instance(): string {
    return this.#placement?.instance ?? '';
  }

  get executionId(): string | null {
    return this.#parts?.executionId ?? null;
  }

  /** Of the session that it opened or ran in. */
  get sessionId(): string | null {
    return this.#parts?.session?.id ?? null;
  }

  get where(): Omit<RunWhere, 'attempts'> {
    const { cluster = null, instance = null } = this.#placement ?? {};
    return { executionId: this.executionId, cluster, instance };
  }

  place(placement: Placement): void {
    this.#placement = placement;
    this.#stream = undefined;
  }

  carryOut(effect: AgentEffect): void {
    switch (effect.do) {
      case 'send':
        void this.#send();
        break;
      case 'ask':
        void this.#ask(effect.fence);
        break;
      case 'attach':
        void this.#attach();
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
    }
  }

  /** The reader took bytes. */
  consumed(bytes: number): void {
    this.#stream?.consumed(bytes);
  }

  /** Its output may go at the agent. Over any link: the stream's own may have been lost since. */
  acknowledge(): void {
    const whereabouts = this.#whereabouts();
    const own = this.#placement?.link;
    const link = own?.joined ? own : this.#deps.directory.linkTo(whereabouts);
    link?.acknowledge(whereabouts.executionId);
  }

  /** The run failed. */
  end(...[started]: Parameters<RunStart['end']>): void {
    this.#stream?.stopInput();
    this.#start.end(started);
  }

  async #send(): Promise<void> {
    const { order, phases, at, apply, queueLeftMs, sent } = this.#options;
    const placement = this.#placement as Placement;
    const { cluster, link } = placement;
    const parts = await this.#start.prepare(placement).catch((failure) => {
      apply({ type: 'input_failed', failure });
      return undefined;
    });
    if (!parts || at() !== 'placed') return placement.release();
    if (!link.joined || link.draining) {
      placement.release();
      apply({ type: 'nack', code: 'draining', detail: 'The agent is leaving.', retryAfterMs: null });
      return;
    }
    // An earlier attempt's: it did not run.
    if (this.#parts)
      this.#deps.shelf.end(this.#options.order.wanted.caller.tenant, this.#parts.executionId, null);
    this.#parts = parts;
    phases.mark('placed');
    apply({ type: 'sent' });
    this.#stream = AgentStream.start(
      this.#streamOn(link),
      startBodyOf(order, parts, cluster, queueLeftMs(), phases.queueMs ?? 0),
      { input: order.input, principal: order.wanted.caller.principal, store: this.#deps.fileStore },
    );
    sent(parts.executionId);
  }

  #streamOn(link: GatewayLink): AgentStreamOptions {
    const { output, apply, at } = this.#options;
    const phase = () => (at() === 'started' ? 'running' : at() === 'over' ? 'over' : 'before');
    return { link, timers: this.#deps.timers, output, apply: (event) => apply(this.#retold(event)), phase };
  }

  /** An id that was fenced while its START was on its way: another gateway asks for the key, and knows what became of it. */
  #retold(event: ExecutionEvent): ExecutionEvent {
    if (event.type !== 'nack' || event.code !== 'duplicate' || !this.#options.order.key) return event;
    return { ...event, code: 'draining', detail: 'Another gateway has asked for this key meanwhile.' };
  }

  async #attach(): Promise<void> {
    const { at, apply } = this.#options;
    const whereabouts = this.#whereabouts();
    const link = await joinedSister(this.#deps, whereabouts, () => at() === 'attaching');
    if (at() !== 'attaching') return;
    if (link) this.#stream = AgentStream.attach(this.#streamOn(link), whereabouts.executionId, null);
    else apply({ type: 'untold' });
  }

  async #ask(fence: boolean): Promise<void> {
    const { at, apply } = this.#options;
    const answer = await askSister(this.#deps, this.#whereabouts(), fence, () => at() === 'recovering');
    apply(answer ? { type: 'told', answer } : { type: 'untold' });
  }

  async #cancelById(reason: string): Promise<void> {
    const whereabouts = this.#whereabouts();
    const link = await sisterLink(this.#deps, whereabouts);
    await link?.questions.cancel(whereabouts.executionId, reason, CANCEL_TIMEOUT_MS);
  }

  #whereabouts(): Whereabouts {
    const { tenant } = this.#options.order.wanted.caller;
    const { cluster = '', instance = '' } = this.#placement ?? {};
    return { tenant, cluster, instance, executionId: this.executionId ?? '' };
  }
}
