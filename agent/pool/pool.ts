import { Failure, troubleForCallers } from '../../shared/errors.ts';
import type { Template } from '../../shared/template.ts';
import type { Backend } from '../backends/backend.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { createRunnerClient, type RunnerClient, type RunnerClientDeps } from '../runner/client.ts';
import { createAnswerFirst } from './answer-first.ts';
import { POOL_BOUNDS, type PoolBounds } from './bounds.ts';
import { createCreationTrouble, lostInMaking, shortLived, type Trouble } from './creation-trouble.ts';
import { createLending, type Loan } from './lending.ts';
import { isAged, planSweep } from './plan-sweep.ts';
import { createPoolSlots, type SlotCounts } from './pool-slots.ts';
import { planRefill } from './refill.ts';
import { createSandboxLife, type Slot } from './sandbox-life.ts';
import { next, type SandboxEvent, type SandboxState } from './sandbox-state.ts';
import { createWaitingLine } from './waiting-line.ts';

export type PoolDeps = {
  backend: Backend;
  template: Template;
  clock: Clock;
  random: () => number;
  log: Log;
  /** What can be taken, or the trouble, may have changed. Never called on an execution's way. */
  onChange: () => void;
  openRunner?: ((deps: RunnerClientDeps) => RunnerClient) | undefined;
  bounds?: PoolBounds | undefined;
};

export type PoolCounts = SlotCounts & { readonly waiting: number };

/** One template's sandboxes. */
export type Pool = {
  readonly template: Template;
  /** A sandbox that waits, at once, or undefined. */
  take(principal: string): Loan | undefined;
  /** The next sandbox, in the order of asking. Rejects with the trouble that stands in the way, or the signal's reason. */
  wait(principal: string, signal: AbortSignal): Promise<Loan>;
  /** How many more executions could begin now, or after one creation. */
  capacity(): number;
  readonly trouble: Trouble | null;
  /** There is trouble, and sandboxes come free in spite of it: waiting for one is worth it. */
  readonly hopeful: boolean;
  counts(): PoolCounts;
  /** Replaces the template: sandboxes of another hash go as soon as they are free. */
  update(template: Template): void;
  /** Replaces every sandbox as soon as it is free: nothing is held to be true of them any more. */
  renew(): void;
  /** Ends every sandbox, those that are taken too. Resolves when all are gone. */
  close(): Promise<void>;
};

/** Keeps `pool.min` sandboxes waiting beside those that are taken, and never more than `pool.max` in all. */
export function createPool(deps: PoolDeps): Pool {
  const { backend, clock, log, onChange, bounds = POOL_BOUNDS } = deps;
  const slots = createPoolSlots(clock, deps.template.hash, backend.freshPerExecution);
  const { idle, counts } = slots;
  const line = createWaitingLine<Loan>();
  const answerFirst = createAnswerFirst(clock, () => closing || line.size > 0);
  const isHopeful = () => slots.haveLived(bounds.hopefulMs);
  const closed = Promise.withResolvers<void>();
  const openRunner = deps.openRunner ?? createRunnerClient;
  const life = createSandboxLife({ ...deps, bounds, openRunner, report });
  const { lend, settle } = createLending({ report, reset: life.reset, whenAnswered, afterUse });
  const trouble = createCreationTrouble({ ...deps, bounds, template: deps.template.name, retry: soon });
  const stopListening = backend.onReachable?.(trouble.retryNow);
  let { template } = deps;
  let refillDue = false;
  let cancelSweep = clock.after(bounds.pingEveryMs, sweep);
  let closing = false;
  soon();

  /** The one place where a sandbox changes its state. */
  function report(slot: Slot, event: SandboxEvent, failure?: Failure): void {
    const from = slot.state;
    const to = next(from, event);
    if (failure && to !== from) judge(slot, from, failure);
    if (to === from) return;
    slots.move(slot, to);
    if (from === 'connecting' || from === 'unreached') if (to === 'idle') trouble.succeeded();
    if (to === 'idle') becameIdle(slot);
    if (to === 'retiring') settle(slot, 'discarded');
    if (closing && slots.size === 0) closed.resolve();
    const removeThenRefill = () => {
      void life.destroy(slot);
      soon();
    };
    const then = to === 'retiring' ? removeThenRefill : soon;
    // The processors are the execution's: it has just begun, or its answer is on its way. One for each sandbox at most.
    if (event === 'spent' || (event === 'take' && idle.size() > 0))
      answerFirst.later(then, bounds.answerFirstMs);
    else then();
  }

  function whenAnswered(work: () => void, answered: Promise<void> | undefined): void {
    answerFirst.until(answered, work, bounds.resetAnywayMs);
  }

  /** A failure that speaks against the next creation is trouble; any other costs this one sandbox. */
  function judge(slot: Slot, from: SandboxState, failure: Failure): void {
    const free = from === 'idle' || from === 'unreached';
    const young = free && clock.now() - slot.bornMs < bounds.steadyMs;
    const creation = from === 'creating' || from === 'connecting' || young;
    if (creation && slot.hash === template.hash && !closing) {
      const why = young ? shortLived(failure) : lostInMaking(failure);
      if (young) slot.ready = undefined;
      trouble.failed(why);
      if (!isHopeful()) line.refuseAll(troubleForCallers(why));
    } else if (from !== 'cancelled' && !closing) {
      const { code, detail, cause } = failure;
      const sandbox = slot.sandbox?.id;
      log('sandbox_discarded', { template: template.name, sandbox, code, detail, cause, while: from });
    }
  }

  function becameIdle(slot: Slot): void {
    settle(slot, slot.owner === undefined ? 'returned' : 'reset');
    const { owner } = slot;
    line.serve(
      (principal) => owner === undefined || owner === principal,
      (principal) => lend(slot, principal),
    );
  }

  function afterUse(slot: Slot) {
    // No sweep finds it waiting where somebody waits for it each time.
    if (isAged(slot, clock.now(), bounds)) return 'spent';
    if (template.reuse === 'reset') return 'reset';
    return backend.freshPerExecution ? 'give_back' : 'spent';
  }

  /** Refill and callbacks, once, after what is under way: an execution never waits for them. */
  function soon(): void {
    if (refillDue) return;
    refillDue = true;
    clock.after(0, () => {
      refillDue = false;
      if (!closing) refill();
      onChange();
    });
  }

  function refill(): void {
    const { filled, begin: missing } = planRefill({
      ...template.pool,
      all: slots.size,
      serving: counts.idle + counts.unreached + counts.taken + counts.resetting,
      free: idle.unowned(),
      onTheirWay: counts.creating + counts.connecting,
      unreached: counts.unreached,
      waiting: line.size,
      failing: trouble.failing,
      maxCreating: bounds.maxCreating,
    });
    if (filled) trouble.filled();
    if (!trouble.waiting)
      for (let n = missing; n > 0; n -= 1) void life.create(slots.add(template.hash), template);
    // What others keep for themselves makes room for those who wait.
    let unserved = line.size - counts.creating - counts.connecting - counts.retiring;
    for (; unserved > 0; unserved -= 1) {
      const least = idle.leastUsedOwned();
      if (!least) return;
      report(least, 'retire');
    }
  }

  function sweep(): void {
    cancelSweep = clock.after(bounds.pingEveryMs, sweep);
    const idling = [...idle.all()];
    const plan = planSweep(idling, { now: clock.now(), spare: idle.unowned() - template.pool.min, bounds });
    for (const slot of plan.retire) report(slot, 'retire');
    for (const slot of plan.ping) void life.ping(slot);
  }

  function retire(which: (slot: Slot) => boolean): void {
    for (const slot of [...slots].filter(which)) {
      if (slot.state === 'creating')
        slot.abort.abort(new Failure('backend_unavailable', 'No longer wanted.'));
      report(slot, 'retire');
    }
  }

  function close(): Promise<void> {
    if (closing) return closed.promise;
    closing = true;
    cancelSweep();
    stopListening?.();
    trouble.close();
    line.refuseAll(shuttingDown());
    retire((slot) => slot.state !== 'retiring');
    answerFirst.hurry();
    // An execution that still holds one loses it now: its deadline has passed.
    for (const slot of [...slots]) if (slot.state === 'condemned') slot.runner?.close();
    if (slots.size === 0) closed.resolve();
    return closed.promise;
  }

  return {
    get template() {
      return template;
    },
    get trouble() {
      return trouble.current;
    },
    get hopeful() {
      return trouble.current !== null && isHopeful();
    },
    take(principal) {
      const slot = closing ? undefined : idle.find(principal);
      return slot && lend(slot, principal);
    },
    wait(principal, signal) {
      if (closing) return Promise.reject(shuttingDown());
      const slot = idle.find(principal);
      if (slot) return Promise.resolve(lend(slot, principal));
      const { current } = trouble;
      if (current && !isHopeful()) return Promise.reject(troubleForCallers(current));
      answerFirst.hurry();
      soon();
      return line.join(principal, signal, soon);
    },
    capacity() {
      if (closing) return 0;
      if (trouble.current) return Math.max(0, idle.size() - line.size);
      const busy = slots.size - idle.size() - counts.creating - counts.connecting;
      return Math.max(0, template.pool.max - busy - line.size);
    },
    counts: () => ({ ...counts, waiting: line.size }),
    update(changed) {
      const replaced = changed.hash !== template.hash;
      template = changed;
      if (!replaced) return;
      trouble.clear();
      slots.change(changed.hash);
      retire((slot) => slot.hash !== changed.hash && slot.state !== 'retiring');
      soon();
    },
    renew() {
      retire((slot) => slot.state !== 'retiring');
      soon();
    },
    close,
  };
}

function shuttingDown(): Failure {
  return new Failure('draining', 'The agent is shutting down.');
}
