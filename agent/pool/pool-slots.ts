import type { Clock } from '../clock.ts';
import { createIdleSlots, type IdleSlots } from './idle-slots.ts';
import { newSlot, type Slot } from './sandbox-life.ts';
import { SANDBOX_STATES, type SandboxState } from './sandbox-state.ts';

export type SlotCounts = Readonly<Record<SandboxState, number>>;

/** The sandboxes of a pool, from the decision to make one until it is gone, by where they stand. */
export type PoolSlots = Iterable<Slot> & {
  readonly idle: IdleSlots;
  readonly counts: SlotCounts;
  readonly size: number;
  /** A place for one that is about to be made. */
  add(hash: string): Slot;
  /** To a state that it is not in. One that is gone has no place any more. */
  move(slot: Slot, to: SandboxState): void;
  /** One lives, or lived so lately: where each execution costs one, all of them may be on their way out. */
  haveLived(withinMs: number): boolean;
  /** Those to come are of this hash: the others say nothing of them, however long they live. */
  change(hash: string): void;
};

/** `wanted`: the hash of the template. `inTurn`: which of those that wait is next, as for `createIdleSlots`. */
export function createPoolSlots(clock: Clock, wanted: string, inTurn: boolean): PoolSlots {
  const slots = new Set<Slot>();
  const idle = createIdleSlots(inTurn);
  const counts = Object.fromEntries(SANDBOX_STATES.map((state) => [state, 0])) as Record<
    SandboxState,
    number
  >;
  let lastReadyMs = Number.NEGATIVE_INFINITY;
  const hasLived = ({ ready, hash }: Slot) => ready !== undefined && hash === wanted;

  return {
    idle,
    counts,
    get size() {
      return slots.size;
    },
    [Symbol.iterator]: () => slots.values(),
    add(hash) {
      const slot = newSlot(hash, clock.now());
      slots.add(slot);
      counts[slot.state] += 1;
      return slot;
    },
    move(slot, to) {
      const from = slot.state;
      counts[from] -= 1;
      counts[to] += 1;
      slot.state = to;
      if (hasLived(slot)) lastReadyMs = clock.now();
      if (from === 'idle') idle.remove(slot);
      if (to === 'idle') {
        slot.idleSinceMs = clock.now();
        idle.add(slot);
      } else if (to === 'gone') slots.delete(slot);
    },
    haveLived(withinMs) {
      if (clock.now() - lastReadyMs < withinMs) return true;
      return [...slots].some(hasLived);
    },
    change(hash) {
      wanted = hash;
      lastReadyMs = Number.NEGATIVE_INFINITY;
    },
  };
}
