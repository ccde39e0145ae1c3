import { expect, test } from 'vitest';
import { POOL_BOUNDS } from '../../agent/pool/bounds.ts';
import { planSweep } from '../../agent/pool/plan-sweep.ts';
import { newSlot } from '../../agent/pool/sandbox-life.ts';

const { pingEveryMs, unusedMs, ownedUnusedMs, maxAgeMs } = POOL_BOUNDS;
const NOW = 2 * maxAgeMs;

type Waiting = { unused: number; owner?: string; age?: number };

test.for<[string, { spare?: number; idle: Waiting[] }, { retire: number[]; ping: number[] }]>([
  ['leaves alone what was just used', { idle: [{ unused: pingEveryMs - 1 }] }, { retire: [], ping: [] }],
  [
    'asks what waits so long whether it lives',
    { idle: [{ unused: pingEveryMs }] },
    { retire: [], ping: [0] },
  ],
  [
    'keeps what min asks for, however long unused',
    { spare: 0, idle: [{ unused: unusedMs }] },
    { retire: [], ping: [0] },
  ],
  [
    'lets go of what is spare once it is unused for so long, and not before',
    { spare: 2, idle: [{ unused: unusedMs }, { unused: unusedMs - 1 }] },
    { retire: [0], ping: [1] },
  ],
  [
    'lets go of as many as are spare, and no more',
    { spare: 2, idle: [{ unused: unusedMs }, { unused: unusedMs }, { unused: unusedMs }] },
    { retire: [0, 1], ping: [2] },
  ],
  [
    'counts none as spare that is kept',
    { spare: 1, idle: [{ unused: pingEveryMs }, { unused: unusedMs }] },
    { retire: [1], ping: [0] },
  ],
  [
    'lets go of what one principal keeps once it is unused for so long, and not before',
    {
      idle: [
        { unused: ownedUnusedMs, owner: 'a' },
        { unused: ownedUnusedMs - 1, owner: 'a' },
      ],
    },
    { retire: [0], ping: [1] },
  ],
  [
    'counts none as spare that one principal keeps',
    { spare: 1, idle: [{ unused: ownedUnusedMs, owner: 'a' }, { unused: unusedMs }] },
    { retire: [0, 1], ping: [] },
  ],
  [
    'replaces what is so old, and not before',
    {
      idle: [
        { unused: 0, age: maxAgeMs },
        { unused: 0, age: maxAgeMs - 1 },
      ],
    },
    { retire: [0], ping: [] },
  ],
])('a sweep %s', ([, { spare = 0, idle }, plan]) => {
  const slots = idle.map(({ unused, owner, age = 0 }) => {
    const slot = newSlot('hash', NOW - age);
    slot.idleSinceMs = NOW - unused;
    slot.owner = owner;
    return slot;
  });
  const { retire, ping } = planSweep(slots, { now: NOW, spare, bounds: POOL_BOUNDS });
  const places = (some: typeof slots) => some.map((slot) => slots.indexOf(slot));
  expect({ retire: places(retire), ping: places(ping) }).toEqual(plan);
});
