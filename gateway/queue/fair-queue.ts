/**
 * Items that wait, fair between their owners: each round takes one of every owner, first in first out within an owner.
 * Items of one owner that want different things wait in lanes, so that the head of one does not block the others.
 * Pure state.
 */
export class FairQueue<T> {
  /** Owners in the order of their turns: a Map keeps insertion order, and whoever was served goes to its end. */
  readonly #owners = new Map<string, Map<string, Entry<T>[]>>();
  readonly #sizes = new Map<string, number>();
  /** By how many owners each lane is waited in. */
  readonly #lanes = new Map<string, number>();
  #size = 0;
  #arrivals = 0;

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
      this.#lanes.set(lane, (this.#lanes.get(lane) ?? 0) + 1);
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

  /**
   * Takes the next item that `accept` takes, or undefined when it takes none. A lane that was declined once is not
   * offered again in this call, whoever's it is: lanes of one name want the same.
   */
  take(accept: (item: T, lane: string) => boolean): T | undefined {
    const declined = new Set<string>();
    for (const [owner, lanes] of this.#owners) {
      if (declined.size === this.#lanes.size) return undefined;
      const heads = [...lanes].flatMap(([lane, entries]) => {
        const [head] = entries;
        return head && !declined.has(lane) ? [{ lane, entries, head }] : [];
      });
      heads.sort((a, b) => a.head.arrival - b.head.arrival);
      for (const { lane, entries, head } of heads) {
        if (!accept(head.item, lane)) {
          declined.add(lane);
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

  #tidy(owner: string, lane: string, entries: readonly Entry<T>[]): void {
    if (entries.length > 0) return;
    const lanes = this.#owners.get(owner);
    if (lanes?.get(lane) === entries) {
      lanes.delete(lane);
      const waitedBy = (this.#lanes.get(lane) ?? 0) - 1;
      if (waitedBy > 0) this.#lanes.set(lane, waitedBy);
      else this.#lanes.delete(lane);
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
