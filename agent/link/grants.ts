/** A link as grants see it. Links of one group lead to the same gateway replica and share what is granted to it. */
export type GrantTarget = { readonly group: string; readonly outstanding: number };

/**
 * How much to raise each link's grant, so that over the links of one group what is granted and not spent reaches
 * `capacity` and never passes it; the links of a group end as equal as they can. Groups do not know of each other:
 * each is given everything, because a START too many is refused with a definite NACK.
 */
export function allocate(capacity: number, targets: readonly GrantTarget[]): number[] {
  const raises = targets.map(() => 0);
  for (const group of new Set(targets.map((target) => target.group))) {
    const members = targets.flatMap((target, index) =>
      target.group === group ? [{ index, level: target.outstanding }] : [],
    );
    let spare = capacity - members.reduce((sum, { level }) => sum + level, 0);
    members.sort((a, b) => a.level - b.level);
    // Water finds its level: the lowest are raised together up to the next one.
    for (let low = 1; spare > 0 && low <= members.length; low += 1) {
      const ceiling = members[low]?.level ?? Number.POSITIVE_INFINITY;
      const level = members[low - 1]?.level ?? 0;
      const step = Math.min(ceiling - level, Math.floor(spare / low));
      const left = ceiling - level > step ? spare - step * low : 0;
      for (const [at, member] of members.slice(0, low).entries()) {
        const raise = step + (at < left ? 1 : 0);
        member.level += raise;
        spare -= raise;
        raises[member.index] = (raises[member.index] ?? 0) + raise;
      }
    }
  }
  return raises;
}

export type Grant = { readonly cluster: string; readonly template: string; readonly granted: number };
export type Capacity = { readonly cluster: string; readonly template: string; readonly capacity: number };

/** What every link may still start. `Id` names a link. */
export type GrantBook<Id> = {
  join(link: Id, group: string): void;
  /** The link is gone or may start nothing more: what it had not spent is free for its sisters. */
  leave(link: Id): void;
  /** A START came over the link. */
  spend(link: Id, cluster: string, template: string): void;
  /** Raises grants to what can be started now. Gives, per link, what to send. */
  raise(capacities: readonly Capacity[]): Map<Id, Grant[]>;
  /** Granted and not spent, over the links of a group. */
  outstanding(group: string, cluster: string, template: string): number;
};

type Account = { granted: number; spent: number };

export function createGrantBook<Id>(): GrantBook<Id> {
  const links = new Map<Id, { readonly group: string; readonly accounts: Map<string, Account> }>();

  function account(accounts: Map<string, Account>, key: string): Account {
    const known = accounts.get(key);
    if (known) return known;
    const made = { granted: 0, spent: 0 };
    accounts.set(key, made);
    return made;
  }

  return {
    join: (link, group) => void links.set(link, { group, accounts: new Map() }),
    leave: (link) => void links.delete(link),
    spend(link, cluster, template) {
      const known = links.get(link)?.accounts.get(keyOf(cluster, template));
      // More than was granted is refused or served like any other START, and must not count as granted.
      if (known) known.spent = Math.min(known.spent + 1, known.granted);
    },
    raise(capacities) {
      const entries = [...links];
      const grants = new Map<Id, Grant[]>();
      for (const { cluster, template, capacity } of capacities) {
        const accounts = entries.map(([, link]) => account(link.accounts, keyOf(cluster, template)));
        const targets = entries.map(([, { group }], index) => {
          const { granted = 0, spent = 0 } = accounts[index] ?? {};
          return { group, outstanding: granted - spent };
        });
        for (const [index, raise] of allocate(capacity, targets).entries()) {
          const [link] = entries[index] ?? [];
          const own = accounts[index];
          if (raise === 0 || link === undefined || own === undefined) continue;
          own.granted += raise;
          const list = grants.get(link) ?? [];
          list.push({ cluster, template, granted: own.granted });
          grants.set(link, list);
        }
      }
      return grants;
    },
    outstanding(group, cluster, template) {
      let sum = 0;
      for (const link of links.values()) {
        const own = link.group === group ? link.accounts.get(keyOf(cluster, template)) : undefined;
        if (own) sum += own.granted - own.spent;
      }
      return sum;
    },
  };
}

function keyOf(cluster: string, template: string): string {
  return `${cluster}/${template}`;
}
