/**
 * Items that wait, fair between their owners: each round takes one of every owner, first in first out within an owner.
 * Items of one owner that want different things wait in lanes, so that the head of one does not block the others. Lanes
 * that may be served by the same thing are of one group. Pure state.
 */
export class FairQueue<T> {
  /** Owners in the order of their turns: a Map keeps insertion order, and whoever was served goes to its end. */
  readonly #owners = new Map<string, Map<string, Entry<T>[]>>();
  readonly #sizes = new Map<string, number>();
  /** Lanes that are waited in, and by how many owners. */
  readonly #lanes = new Map<string, { group: string; owners: number }>();
  readonly #groups = new Map<string, Set<string>>();
  readonly #groupOf: (item: T) => string;
  #size = 0;
  #arrivals = 0;

  /** `groupOf`: the group of an item's lane, the same for all of one lane. */
  constructor(groupOf: (item: T) => string = () => '') {
    this.#groupOf = groupOf;
  }

  get size(): number {
    return this.#size;
  }

  sizeOf(owner: string): number {
    return this.#sizes.get(owner) ?? 0;
  }

  /** Adds an item at the end of its owner's lane, or at the front: it had its turn and lost it through no fault of its own. */
  push(owner: string, lane: string, item: T, at: 'end' | 'front' = 'end'): Ticket {
    let lanes = this.#owners.get(owner);
    if (!lanes) {
      lanes = new Map();
      this.#owners.set(owner, lanes);
    }
    let entries = lanes.get(lane);
    if (!entries) {
      entries = [];
      lanes.set(lane, entries);
      this.#enter(lane, item);
    }
    this.#arrivals += 1;
    const entry: Entry<T> = { item, arrival: at === 'end' ? this.#arrivals : -this.#arrivals };
    if (at === 'end') entries.push(entry);
    else entries.unshift(entry);
    this.#count(owner, 1);
    const own = entries;
    return {
      remove: () => {
        const index = own.indexOf(entry);
        if (index === -1) return false;
        own.splice(index, 1);
        this.#tidy(owner, lane, own);
        this.#count(owner, -1);
        return true;
      },
    };
  }

  /** Lanes of a group that are waited in. */
  lanesOf(group: string): Iterable<string> {
    return this.#groups.get(group) ?? [];
  }

  /**
   * Takes the next item of these lanes that `accept` takes, or undefined when it takes none. A lane that was declined once
   * is not offered again in this call, whoever's it is: lanes of one name want the same.
   */
  take(
    accept: (item: T, lane: string) => boolean,
    among: Iterable<string> = this.#lanes.keys(),
  ): T | undefined {
    const offered = new Set([...among].filter((lane) => this.#lanes.has(lane)));
    for (const [owner, lanes] of this.#owners) {
      if (offered.size === 0) return undefined;
      const fewer = lanes.size < offered.size ? lanes : offered;
      const heads = [...fewer.keys()].flatMap((lane) => {
        const entries = offered.has(lane) ? lanes.get(lane) : undefined;
        const head = entries?.[0];
        return entries && head ? [{ lane, entries, head }] : [];
      });
      heads.sort((a, b) => a.head.arrival - b.head.arrival);
      for (const { lane, entries, head } of heads) {
        if (!accept(head.item, lane)) {
          offered.delete(lane);
          continue;
        }
        entries.shift();
        this.#owners.delete(owner);
        this.#owners.set(owner, lanes);
        this.#tidy(owner, lane, entries);
        this.#count(owner, -1);
        return head.item;
      }
    }
    return undefined;
  }

  #enter(lane: string, item: T): void {
    const known = this.#lanes.get(lane);
    if (known) {
      known.owners += 1;
      return;
    }
    const group = this.#groupOf(item);
    this.#lanes.set(lane, { group, owners: 1 });
    const lanes = this.#groups.get(group) ?? new Set();
    this.#groups.set(group, lanes.add(lane));
  }

  #leave(lane: string): void {
    const known = this.#lanes.get(lane);
    if (!known) return;
    known.owners -= 1;
    if (known.owners > 0) return;
    this.#lanes.delete(lane);
    const lanes = this.#groups.get(known.group);
    lanes?.delete(lane);
    if (lanes?.size === 0) this.#groups.delete(known.group);
  }

  #tidy(owner: string, lane: string, entries: readonly Entry<T>[]): void {
    if (entries.length > 0) return;
    const lanes = this.#owners.get(owner);
    if (lanes?.get(lane) === entries) {
      lanes.delete(lane);
      this.#leave(lane);
    }
    if (lanes?.size === 0) this.#owners.delete(owner);
  }

  #count(owner: string, change: 1 | -1): void {
    this.#size += change;
    const size = this.sizeOf(owner) + change;
    if (size > 0) this.#sizes.set(owner, size);
    else this.#sizes.delete(owner);
  }
}

type Entry<T> = { item: T; arrival: number };
export type Ticket = { /** False when it has been taken already. */ remove(): boolean };
