import { expect, test } from 'vitest';
import { planRefill, type RefillState } from '../../agent/pool/refill.ts';

const FULL: RefillState = {
  min: 2,
  max: 4,
  all: 2,
  serving: 2,
  free: 2,
  onTheirWay: 0,
  unreached: 0,
  waiting: 0,
  failing: false,
  maxCreating: 8,
};

test.for<[string, Partial<RefillState>, { filled: boolean; begin: number }]>([
  ['with what it wants makes nothing', {}, { filled: true, begin: 0 }],
  ['makes what min lacks', { all: 0, serving: 0, free: 0 }, { filled: false, begin: 2 }],
  ['makes one for each that waits, up to max', { free: 0, waiting: 5 }, { filled: false, begin: 2 }],
  ['counts what is on its way', { all: 2, serving: 0, free: 0, onTheirWay: 2 }, { filled: false, begin: 0 }],
  ['counts what is mostly back soon', { free: 0, unreached: 2 }, { filled: true, begin: 0 }],
  [
    'makes no more at once than it may',
    { max: 40, waiting: 40, maxCreating: 3 },
    { filled: false, begin: 3 },
  ],
  ['makes one for all after a failure', { free: 0, waiting: 5, failing: true }, { filled: false, begin: 1 }],
  ['makes one after a failure though nothing lacks', { failing: true }, { filled: true, begin: 1 }],
  ['makes none at max after a failure', { all: 4, serving: 4, failing: true }, { filled: true, begin: 0 }],
  [
    'is not full while what fills it is on its way',
    { all: 4, serving: 2, free: 0, onTheirWay: 2 },
    { filled: false, begin: 0 },
  ],
  ['is full at max, whoever waits', { all: 4, serving: 4, free: 0, waiting: 9 }, { filled: true, begin: 0 }],
])('a pool %s', ([, change, plan]) => {
  expect(planRefill({ ...FULL, ...change })).toEqual(plan);
});
