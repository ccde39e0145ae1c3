import { Failure } from '../../shared/errors.ts';
import { MAX_QUEUE, MAX_QUEUE_PER_HOLDER } from '../../shared/limits.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import type { SlotPlace } from '../clusters/instance.ts';
import { type Placement, place, type SlotPlacement, type Wanted } from '../clusters/placement.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { FairQueue, type Ticket } from './fair-queue.ts';

/** How often one looks again whether what waits for something else than a slot still does. */
const HELD_POLL_MS = 250;

/** One execution that wants a slot. */
export type SlotRequest = {
  wanted: Wanted;
  /** Instances that refused it. */
  refused: ReadonlySet<string>;
  /** Instances that it runs at only where no other one is free. */
  avoided: ReadonlySet<string>;
  /** Of one that may have to wait for something else than a slot: whether it does. It takes none then, and others pass. */
  held: (() => boolean) | undefined;
  /** A slot is taken for it, its grant spent. Called at most once. */
  placed(placement: Placement): void;
};

/**
 * Who gets the next free slot. Fair between the holders of keys: the users that a key names share its turn. Woken by
 * what agents grant; by a clock only for those that are held.
 */
export class SlotQueue {
  readonly #directory: ClusterDirectory;
  readonly #timers: GatewayDeps['timers'];
  readonly #maxPerTenant: number;
  readonly #tenants = new Map<string, FairQueue<SlotRequest>>();
  /** Of tenants with somebody who is held: when one looks again, and at which lanes. */
  readonly #looks = new Map<string, { timer: unknown; lanes: Set<string> }>();
  #size = 0;

  constructor(directory: ClusterDirectory, timers: GatewayDeps['timers'], maxPerTenant = MAX_QUEUE) {
    this.#directory = directory;
    this.#maxPerTenant = maxPerTenant;
    this.#timers = timers;
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Takes a slot at once where one is free and nobody is before it; else waits. Throws `rate_limited` or `at_capacity`
   * where too many wait already. Returns how to stop waiting.
   */
  request(request: SlotRequest, at: 'end' | 'front'): () => void {
    const { tenant, holder } = request.wanted.caller;
    const waiting = this.#tenants.get(tenant);
    if (!waiting) {
      const placement = this.#place(request, laneOf(request));
      if (placement) {
        request.placed(placement);
        return () => {};
      }
    }
    const queue = waiting ?? new FairQueue<SlotRequest>(groupOf);
    if (at === 'end') this.#requireRoom(queue, holder);
    this.#tenants.set(tenant, queue);
    const lane = laneOf(request);
    const ticket = queue.push(holder, lane, request, at);
    this.#size += 1;
    if (waiting) this.#serve(tenant, [lane]);
    return () => this.#remove(tenant, queue, ticket);
  }

  /**
   * Something may be free there that was not before: those whose turn it is take it. Nobody else is looked at, and no other
   * place: agents tell of it as often as they like.
   */
  freed(tenant: string, at: SlotPlace): void {
    const queue = this.#tenants.get(tenant);
    if (!queue) return;
    const named = queue.lanesOf(groupName(at.cluster, at.template));
    const any = queue.lanesOf(groupName(null, at.template));
    this.#serve(tenant, [...named, ...any], at);
  }

  #serve(tenant: string, lanes: Iterable<string>, at?: SlotPlace): void {
    const queue = this.#tenants.get(tenant);
    if (!queue) return;
    for (;;) {
      let placement: Placement | undefined;
      const request = queue.take((waiting, lane) => {
        placement = this.#place(waiting, lane, at);
        return placement !== undefined;
      }, lanes);
      if (!request || !placement) break;
      this.#size -= 1;
      if (queue.size === 0) this.#forget(tenant);
      request.placed(placement);
    }
  }

  #requireRoom(queue: FairQueue<SlotRequest>, holder: string): void {
    if (queue.sizeOf(holder) >= MAX_QUEUE_PER_HOLDER)
      throw new Failure('rate_limited', 'Too many executions of this key wait already.', {
        retryAfterMs: 1_000,
      });
    if (this.#size >= MAX_QUEUE)
      throw new Failure('at_capacity', 'Too many executions wait already.', { retryAfterMs: 1_000 });
    if (queue.size >= this.#maxPerTenant)
      throw new Failure('rate_limited', 'Too many executions of this tenant wait already.', {
        retryAfterMs: 1_000,
      });
  }

  #remove(tenant: string, queue: FairQueue<SlotRequest>, ticket: Ticket): void {
    if (!ticket.remove()) return;
    this.#size -= 1;
    if (queue.size === 0 && this.#tenants.get(tenant) === queue) this.#forget(tenant);
  }

  #place(request: SlotRequest, lane: string, at?: SlotPlace): Placement | undefined {
    const { tenant } = request.wanted.caller;
    const look = this.#looks.get(tenant);
    if (!request.held?.()) {
      // What was free while it was held is free still, and nobody tells of it again.
      const only = look?.lanes.delete(lane) ? undefined : at;
      return this.#returnable(place(this.#directory, request, only), tenant);
    }
    if (look) {
      look.lanes.add(lane);
      return undefined;
    }
    const lanes = new Set([lane]);
    const timer = this.#timers.setTimeout(() => {
      this.#looks.delete(tenant);
      this.#serve(tenant, lanes);
    }, HELD_POLL_MS);
    this.#looks.set(tenant, { timer, lanes });
    return undefined;
  }

  /** No agent tells of a slot that is given back unused. The next one has it a moment later, as it may come back from `placed`. */
  #returnable(placement: SlotPlacement | undefined, tenant: string): Placement | undefined {
    if (!placement) return undefined;
    const release = () => {
      placement.release();
      queueMicrotask(() => this.freed(tenant, placement.at));
    };
    return { ...placement, release };
  }

  #forget(tenant: string): void {
    this.#tenants.delete(tenant);
    this.#timers.clearTimeout(this.#looks.get(tenant)?.timer);
    this.#looks.delete(tenant);
  }
}

/** Requests of one lane want the same and may use the same: where one finds nothing free, the others do not either. */
function laneOf({ wanted: { caller, cluster, template, language }, refused, held }: SlotRequest): string {
  return JSON.stringify([
    cluster,
    cluster === null ? caller.clusters : null,
    template,
    language,
    [...refused],
    held !== undefined,
  ]);
}

/** Requests of one group want the same template at the same place. */
function groupOf({ wanted: { cluster, template } }: SlotRequest): string {
  return groupName(cluster, template);
}

function groupName(cluster: string | null, template: string): string {
  return JSON.stringify([cluster, template]);
}
