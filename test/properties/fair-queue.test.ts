import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FairQueue } from '../../gateway/queue/fair-queue.ts';

const owner = fc.constantFrom('a', 'b', 'c', 'd');
const lane = fc.constantFrom<string>('x', 'y');

test('owners that wait take turns: nobody is served twice before everybody who waits was served once', () => {
  fc.assert(
    fc.property(fc.array(owner, { minLength: 1, maxLength: 60 }), (owners) => {
      const queue = new FairQueue<{ owner: string; index: number }>();
      owners.forEach((each, index) => {
        queue.push(each, 'x', { owner: each, index });
      });
      const served: { owner: string; index: number }[] = [];
      for (let item = queue.take(() => true); item; item = queue.take(() => true)) {
        for (const other of new Set(owners)) {
          const left = owners.filter((each) => each === other).length;
          const taken = (who: string) => served.filter((each) => each.owner === who).length;
          if (taken(other) < left) expect(taken(item.owner)).toBeLessThanOrEqual(taken(other));
        }
        served.push(item);
      }
      expect(served).toHaveLength(owners.length);
      for (const each of new Set(owners)) {
        const order = served.filter((item) => item.owner === each).map(({ index }) => index);
        expect(order).toEqual(order.toSorted((a, b) => a - b));
      }
    }),
  );
});

test('what is pushed is taken or removed exactly once, whatever is declined', () => {
  const action = fc.oneof(
    fc.record({ do: fc.constant('push' as const), owner, lane, front: fc.boolean() }),
    fc.record({ do: fc.constant('take' as const), lanes: fc.uniqueArray(lane) }),
    fc.record({ do: fc.constant('remove' as const), index: fc.nat(80) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
      const queue = new FairQueue<number>();
      const waiting = new Map<number, { lane: string; remove: () => boolean }>();
      let pushed = 0;
      for (const each of actions) {
        if (each.do === 'push') {
          const item = pushed++;
          const ticket = queue.push(each.owner, each.lane, item, each.front ? 'front' : 'end');
          waiting.set(item, { lane: each.lane, remove: ticket.remove });
        } else if (each.do === 'take') {
          const item = queue.take((_, of) => each.lanes.includes(of));
          const possible = [...waiting.values()].some((entry) => each.lanes.includes(entry.lane));
          expect(item !== undefined).toBe(possible);
          if (item !== undefined) {
            expect(each.lanes).toContain(waiting.get(item)?.lane);
            expect(waiting.get(item)?.remove()).toBe(false);
            waiting.delete(item);
          }
        } else {
          const item = [...waiting.keys()][each.index];
          if (item === undefined) continue;
          expect(waiting.get(item)?.remove()).toBe(true);
          waiting.delete(item);
        }
        expect(queue.size).toBe(waiting.size);
      }
    }),
  );
});

test('an item that comes back to the front is served before its owner’s others', () => {
  const queue = new FairQueue<string>();
  queue.push('a', 'x', 'second');
  queue.push('a', 'x', 'first', 'front');
  queue.push('a', 'y', 'zeroth', 'front');
  expect([1, 2, 3].map(() => queue.take(() => true))).toEqual(['zeroth', 'first', 'second']);
});

test('asks nobody more than once a lane, and takes as long for ten thousand owners as for ten', () => {
  const tookMs = (owners: number) => {
    const queue = new FairQueue<number>();
    for (let index = 0; index < owners; index += 1) queue.push(`owner ${index}`, `lane ${index % 2}`, index);
    const runs = Array.from({ length: 20 }, () => {
      const began = performance.now();
      let asked = 0;
      for (let times = 0; times < 50; times += 1)
        queue.take(() => {
          asked += 1;
          return false;
        });
      expect(asked).toBe(100);
      return performance.now() - began;
    });
    return Math.min(...runs);
  };
  tookMs(10);
  // Looking at every owner takes some hundred times as long.
  expect(tookMs(10_000)).toBeLessThan(20 * tookMs(10));
});
