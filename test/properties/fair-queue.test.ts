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

test('whoever’s turn it is has its oldest item taken that is wanted, once, whatever is declined or removed', () => {
  const action = fc.oneof(
    fc.record({ do: fc.constant('push' as const), owner, lane, front: fc.boolean() }),
    fc.record({ do: fc.constant('take' as const), lanes: fc.uniqueArray(lane) }),
    fc.record({ do: fc.constant('remove' as const), index: fc.nat(80) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80, size: 'max' }), (actions) => {
      const queue = new FairQueue<number>();
      type Waiting = { item: number; lane: string; place: number; remove: () => boolean };
      /** Owners in turn, each with what it waits for. */
      const owners = new Map<string, Waiting[]>();
      const all = () => [...owners].flatMap(([of, items]) => items.map((entry) => ({ of, entry })));
      const drop = (of: string, entry: Waiting) => {
        const left = (owners.get(of) ?? []).filter((each) => each !== entry);
        if (left.length > 0) owners.set(of, left);
        else owners.delete(of);
      };
      let pushed = 0;
      for (const each of actions) {
        if (each.do === 'push') {
          const item = pushed++;
          const { remove } = queue.push(each.owner, each.lane, item, each.front ? 'front' : 'end');
          const entry = { item, lane: each.lane, place: each.front ? -item : item, remove };
          owners.set(each.owner, [...(owners.get(each.owner) ?? []), entry]);
        } else if (each.do === 'take') {
          const declined: string[] = [];
          const item = queue.take((_, of) => {
            if (each.lanes.includes(of)) return true;
            expect(declined).not.toContain(of);
            declined.push(of);
            return false;
          });
          const wanted = all().filter(({ entry }) => each.lanes.includes(entry.lane));
          const first = wanted
            .filter(({ of }) => of === wanted[0]?.of)
            .toSorted((a, b) => a.entry.place - b.entry.place)[0];
          expect(item).toBe(first?.entry.item);
          if (!first) continue;
          expect(first.entry.remove()).toBe(false);
          drop(first.of, first.entry);
          const left = owners.get(first.of);
          owners.delete(first.of);
          if (left) owners.set(first.of, left);
        } else {
          const one = all()[each.index];
          if (!one) continue;
          expect(one.entry.remove()).toBe(true);
          expect(one.entry.remove()).toBe(false);
          drop(one.of, one.entry);
        }
        expect(queue.size).toBe(all().length);
        expect(new Set(queue.lanesOf(''))).toEqual(new Set(all().map(({ entry }) => entry.lane)));
        for (const of of ['a', 'b', 'c', 'd']) expect(queue.sizeOf(of)).toBe(owners.get(of)?.length ?? 0);
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
