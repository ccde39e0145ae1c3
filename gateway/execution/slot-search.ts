import { Failure } from '../../shared/errors.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { mayBePlaced, type Placement, placeTrouble } from '../clusters/placement.ts';
import type { SlotQueue } from '../queue/slot-queue.ts';
import { isOfASandbox } from './agent-codes.ts';
import type { ExecutionEvent } from './execution-event.ts';
import type { ExecutionOrder } from './execution-order.ts';
import { isAwaited, unanswered } from './key-claim.ts';
import type { RunClocks } from './run-clocks.ts';

const RETRY_MS = 1_000;

export type SlotSearchOptions = {
  order: Pick<ExecutionOrder, 'wanted' | 'key'>;
  directory: ClusterDirectory;
  queue: SlotQueue;
  clocks: Pick<RunClocks, 'queueIsOver'>;
  placed(placement: Placement): void;
  apply(event: ExecutionEvent): void;
};

/** One execution's search for where it may run, over all its attempts. */
export type Search = {
  begin(): void;
  again(instance: string, failure?: Failure): void;
  elsewhere(refusing: string, failure: Failure): void;
  timeOut(): void;
  stop(): void;
};

/** One execution's search for a slot. */
export class SlotSearch implements Search {
  readonly #options: SlotSearchOptions;
  /** Instances that refused it. */
  readonly #refused = new Set<string>();
  /** Instances of which a sandbox failed it. */
  readonly #avoided = new Set<string>();
  /** Instances that had no room for it when the queue timeout was over. */
  readonly #full = new Set<string>();
  #lastRefusal: Failure | undefined;
  #leave: () => void = () => {};
  #waits = false;

  constructor(options: SlotSearchOptions) {
    this.#options = options;
  }

  /** Waits for a slot. Throws `rate_limited` or `at_capacity` where too many wait. */
  begin(): void {
    this.#enter('end');
  }

  /**
   * Waits again, before those that came later: the slot was lost for this reason or, without one, the instance had none
   * after all.
   */
  again(instance: string, failure?: Failure): void {
    const { queueIsOver } = this.#options.clocks;
    this.#lastRefusal = failure ?? this.#lastRefusal;
    // It grants what it could make (docs/decisions/0007): asked again it would refuse again, as fast as links are.
    if (queueIsOver && !failure) this.#full.add(instance);
    this.#enter('front');
    if (this.#waits && queueIsOver) {
      this.#leave();
      this.timeOut();
    }
  }

  /** Looks for another instance than this one, which refused; for any other sandbox where only that was at fault. */
  elsewhere(refusing: string, failure: Failure): void {
    const { directory, apply } = this.#options;
    const { wanted } = this.#options.order;
    const tried = isOfASandbox(failure.code) ? this.#avoided : this.#refused;
    tried.add(refusing);
    if (mayBePlaced(directory, wanted, this.#refused)) this.again(refusing, failure);
    else apply({ type: 'nowhere_else', failure });
  }

  /** The queue timeout is over. Says what was in the way. */
  timeOut(): void {
    const { directory, apply } = this.#options;
    const { wanted } = this.#options.order;
    const options = { retryAfterMs: RETRY_MS };
    const failure =
      this.#lastRefusal ??
      (this.#held?.() ? unanswered() : undefined) ??
      placeTrouble(directory, wanted) ??
      (mayBePlaced(directory, wanted, this.#refused)
        ? new Failure('at_capacity', 'All sandboxes are taken.', options)
        : new Failure('no_agent', 'The agent went away.', options));
    apply({ type: 'queue_over', failure });
  }

  /** Waits no more. */
  stop(): void {
    this.#leave();
  }

  /** Of one with an `Idempotency-Key`. */
  get #held(): (() => boolean) | undefined {
    const { directory, order } = this.#options;
    const { caller, cluster } = order.wanted;
    return order.key && cluster !== null ? () => isAwaited(directory, caller.tenant, cluster) : undefined;
  }

  #enter(at: 'end' | 'front'): void {
    const { queue, placed } = this.#options;
    this.#waits = true;
    const request = {
      wanted: this.#options.order.wanted,
      held: this.#held,
      refused: this.#full.size > 0 ? new Set([...this.#refused, ...this.#full]) : this.#refused,
      avoided: this.#avoided,
      placed: (placement: Placement) => {
        this.#waits = false;
        placed(placement);
      },
    };
    this.#leave = queue.request(request, at);
  }
}
