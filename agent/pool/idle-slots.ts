import type { Slot } from './sandbox-life.ts';

/** The sandboxes of a pool that wait: anybody's, and those that one principal keeps for itself. */
export type IdleSlots = {
  add(slot: Slot): void;
  remove(slot: Slot): void;
  /** The principal's own first, the one used last; then anybody's, in the pool's order. Stays until removed. */
  find(principal: string): Slot | undefined;
  /** The owned one that has waited longest. */
  leastUsedOwned(): Slot | undefined;
  unowned(): number;
  size(): number;
  all(): Iterable<Slot>;
};

/**
 * `inTurn`: of anybody's, the one that has waited longest. A sandbox that makes new namespaces for each execution makes
 * the next ones while it waits; the one used last has them last. Otherwise the one used last, so that others age.
 */
export function createIdleSlots(inTurn: boolean): IdleSlots {
  const anybodys: Slot[] = [];
  const owned = new Map<string, Slot[]>();
  /** In order of becoming idle. */
  const ownedByAge = new Set<Slot>();

  function drop(list: Slot[], slot: Slot): void {
    const at = list.lastIndexOf(slot);
    if (at >= 0) list.splice(at, 1);
  }

  return {
    add(slot) {
      if (slot.owner === undefined) {
        anybodys.push(slot);
        return;
      }
      ownedByAge.add(slot);
      const list = owned.get(slot.owner);
      if (list) list.push(slot);
      else owned.set(slot.owner, [slot]);
    },
    remove(slot) {
      if (slot.owner === undefined) {
        drop(anybodys, slot);
        return;
      }
      ownedByAge.delete(slot);
      const list = owned.get(slot.owner);
      if (!list) return;
      drop(list, slot);
      if (list.length === 0) owned.delete(slot.owner);
    },
    find: (principal) => owned.get(principal)?.at(-1) ?? anybodys.at(inTurn ? 0 : -1),
    leastUsedOwned: () => ownedByAge.values().next().value,
    unowned: () => anybodys.length,
    size: () => anybodys.length + ownedByAge.size,
    *all() {
      yield* anybodys;
      yield* ownedByAge;
    },
  };
}
