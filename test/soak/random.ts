/** Numbers that look random and are the same for the same seed, wherever and whenever they are asked for. */
export type Random = {
  /** 0 ≤ n < 1. */
  next(): number;
  /** A whole number from `least` to `most`, both among them. */
  between(least: number, most: number): number;
  /** A wait between events of which one comes every `meanMs`, however long the last is ago. */
  wait(meanMs: number): number;
  pick<Item>(items: readonly Item[]): Item;
  /** One of the names, as often as its weight is of their sum. */
  weighted<Name extends string>(weights: Readonly<Record<Name, number>>): Name;
};

export function createRandom(seed: string): Random {
  let state = 2_166_136_261;
  for (let at = 0; at < seed.length; at += 1) state = Math.imul(state ^ seed.charCodeAt(at), 16_777_619);

  /** Mulberry32. */
  function next(): number {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  const between = (least: number, most: number) => least + Math.floor(next() * (most - least + 1));
  return {
    next,
    between,
    wait: (meanMs) => Math.round(-Math.log(1 - next()) * meanMs),
    pick<Item>(items: readonly Item[]) {
      if (items.length === 0) throw new Error('nothing to pick from');
      return items[between(0, items.length - 1)] as Item;
    },
    weighted<Name extends string>(weights: Readonly<Record<Name, number>>) {
      const names = Object.keys(weights) as Name[];
      const sum = names.reduce((total, name) => total + weights[name], 0);
      let left = next() * sum;
      for (const name of names) {
        left -= weights[name];
        if (left < 0) return name;
      }
      return names.at(-1) as Name;
    },
  };
}
