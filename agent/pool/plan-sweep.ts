import type { PoolBounds } from './bounds.ts';
import type { Slot } from './sandbox-life.ts';

/** Whether it is replaced as soon as it is free. */
export function isAged({ bornMs }: Slot, now: number, { maxAgeMs }: PoolBounds): boolean {
  return now - bornMs >= maxAgeMs;
}

/** What becomes of sandboxes that wait: those that are too old or too long unused go, the others are asked whether they live. */
export function planSweep(
  idle: readonly Slot[],
  {
    now,
    spare,
    bounds,
  }: { now: number /** More than the pool is to keep. */; spare: number; bounds: PoolBounds },
): { retire: Slot[]; ping: Slot[] } {
  const retire: Slot[] = [];
  const ping: Slot[] = [];
  let left = spare;
  for (const slot of idle) {
    const unusedMs = now - slot.idleSinceMs;
    const owned = slot.owner !== undefined;
    const surplus = owned ? unusedMs >= bounds.ownedUnusedMs : left > 0 && unusedMs >= bounds.unusedMs;
    if (surplus && !owned) left -= 1;
    if (surplus || isAged(slot, now, bounds)) retire.push(slot);
    else if (unusedMs >= bounds.pingEveryMs) ping.push(slot);
  }
  return { retire, ping };
}
