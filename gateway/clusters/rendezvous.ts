/**
 * The name that a key falls to: the same for everybody who chooses among the same names, and for most keys also among
 * others. Undefined where there is none.
 */
export function rendezvous(key: string, names: readonly string[]): string | undefined {
  let best: { name: string; weight: number } | undefined;
  for (const name of names) {
    const weight = weigh(`${key} ${name}`);
    if (!best || weight > best.weight || (weight === best.weight && name < best.name))
      best = { name, weight };
  }
  return best?.name;
}

/** FNV-1a of 32 bits, its bits spread once more: names that differ in their last letter must not weigh alike. */
function weigh(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
