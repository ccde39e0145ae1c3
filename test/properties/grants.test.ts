import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allocate, createGrantBook } from '../../agent/link/grants.ts';

const targets = fc.array(fc.record({ group: fc.constantFrom('a', 'b', 'c'), outstanding: fc.nat(20) }), {
  maxLength: 8,
});

describe('an allocation', () => {
  test('fills each group to the capacity, never past it, and takes nothing back', () => {
    fc.assert(
      fc.property(fc.nat(60), targets, (capacity, links) => {
        const raises = allocate(capacity, links);
        for (const group of new Set(links.map((link) => link.group))) {
          const before = links.reduce((sum, link) => sum + (link.group === group ? link.outstanding : 0), 0);
          const raised = links.reduce(
            (sum, link, index) => sum + (link.group === group ? (raises[index] ?? 0) : 0),
            0,
          );
          expect(raised).toBe(Math.max(0, capacity - before));
        }
        expect(raises.every((raise) => raise >= 0)).toBe(true);
      }),
    );
  });

  test('leaves the links of a group as equal as they can be', () => {
    fc.assert(
      fc.property(fc.nat(60), targets, (capacity, links) => {
        const raises = allocate(capacity, links);
        const after = links.map(({ group, outstanding }, index) => ({
          group,
          raise: raises[index] ?? 0,
          level: outstanding + (raises[index] ?? 0),
        }));
        for (const one of after)
          for (const other of after)
            if (one.group === other.group && one.raise > 0)
              expect(one.level).toBeLessThanOrEqual(other.level + 1);
      }),
    );
  });

  test('gives sisters half each', () => {
    const sister = { group: 'a', outstanding: 0 };
    expect(allocate(8, [sister, sister])).toEqual([4, 4]);
    expect(allocate(7, [sister, sister])).toEqual([4, 3]);
    expect(allocate(1, [sister, sister])).toEqual([1, 0]);
    expect(allocate(0, [sister, sister])).toEqual([0, 0]);
    expect(allocate(5, [sister, { group: 'b', outstanding: 0 }])).toEqual([5, 5]);
  });
});

type Step =
  | { do: 'join'; group: 'a' | 'b' }
  | { do: 'leave'; pick: number }
  | { do: 'start'; pick: number }
  | { do: 'end' }
  | { do: 'raise' };
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('join' as const), group: fc.constantFrom('a' as const, 'b' as const) }),
    fc.record({ do: fc.constant('leave' as const), pick: fc.nat(9) }),
    { weight: 5, arbitrary: fc.record({ do: fc.constant('start' as const), pick: fc.nat(9) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('end' as const) }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('raise' as const) }) },
  ),
  { maxLength: 100 },
);

/** Plays a history; `check` sees the book after each step. `one`: every link leads to the same replica. */
function play(
  history: readonly Step[],
  max: number,
  one: boolean,
  check: (group: string, outstanding: number, free: number) => void,
) {
  const book = createGrantBook<number>();
  const links = new Map<number, { group: string; granted: number; spent: number }>();
  let next = 0;
  let running = 0;
  for (const step of history) {
    const ids = [...links.keys()];
    const picked = 'pick' in step ? ids[step.pick % Math.max(1, ids.length)] : undefined;
    const link = picked === undefined ? undefined : links.get(picked);
    if (step.do === 'join') {
      next += 1;
      const group = one ? 'a' : step.group;
      links.set(next, { group, granted: 0, spent: 0 });
      book.join(next, group);
    } else if (step.do === 'leave' && picked !== undefined) {
      links.delete(picked);
      book.leave(picked);
    } else if (step.do === 'start' && picked !== undefined && link && link.spent < link.granted) {
      link.spent += 1;
      book.spend(picked, 'c', 't');
      // Another replica may have been faster: then it is a NACK and nothing runs.
      if (running < max) running += 1;
    } else if (step.do === 'end' && running > 0) running -= 1;
    else if (step.do === 'raise') {
      for (const [id, grants] of book.raise([{ cluster: 'c', template: 't', capacity: max - running }])) {
        const known = links.get(id) as { granted: number };
        for (const { granted } of grants) {
          expect(granted).toBeGreaterThan(known.granted);
          known.granted = granted;
        }
      }
      for (const group of new Set([...links.values()].map((one) => one.group)))
        expect(book.outstanding(group, 'c', 't')).toBeGreaterThanOrEqual(max - running);
    }
    for (const group of ['a', 'b']) {
      const members = [...links.values()].filter((one) => one.group === group);
      const outstanding = members.reduce((sum, { granted, spent }) => sum + granted - spent, 0);
      expect(book.outstanding(group, 'c', 't')).toBe(outstanding);
      check(group, outstanding, max - running);
    }
  }
}

describe('the grant book', () => {
  test('over every history only raises grants, up to what is free for each replica', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 9 }), (history, max) => {
        play(history, max, false, (_group, outstanding) => expect(outstanding).toBeLessThanOrEqual(max));
      }),
      { numRuns: 300 },
    );
  });

  test('with one replica never has more granted than is free', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 9 }), (history, max) => {
        play(history, max, true, (_group, outstanding, free) =>
          expect(outstanding).toBeLessThanOrEqual(free),
        );
      }),
      { numRuns: 300 },
    );
  });

  test('does not count a START that nobody granted', () => {
    const book = createGrantBook<number>();
    book.join(1, 'a');
    book.spend(1, 'c', 't');
    book.raise([{ cluster: 'c', template: 't', capacity: 2 }]);
    expect(book.outstanding('a', 'c', 't')).toBe(2);
    book.spend(9, 'c', 't');
  });

  test('remembers nothing of templates that were never granted, however many a gateway names', () => {
    setFlagsFromString('--expose-gc');
    const collect: () => void = runInNewContext('gc');
    const book = createGrantBook<number>();
    book.join(1, 'a');
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let each = 0; each < 100_000; each += 1) book.spend(1, 'c', `t${each}`);
    collect();
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(1_048_576);
    expect(book.outstanding('a', 'c', 't1')).toBe(0);
  });
});
