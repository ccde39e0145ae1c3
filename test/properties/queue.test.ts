import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Queue } from '../../shared/queue.ts';

test('a queue is an array that is pushed to and shifted from, however much has left it', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('push' as const), count: fc.integer({ min: 0, max: 3_000 }) }),
    fc.record({ do: fc.constant('shift' as const), count: fc.integer({ min: 0, max: 3_000 }) }),
    fc.record({ do: fc.constant('clear' as const), count: fc.constant(1) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const queue = new Queue<{ number: number }>();
      const model: { number: number }[] = [];
      let number = 0;
      for (const { do: what, count } of steps)
        for (let times = 0; times < count; times += 1) {
          if (what === 'push') {
            number += 1;
            const item = { number };
            queue.push(item);
            model.push(item);
          } else if (what === 'shift') {
            const [left, expected] = [queue.shift(), model.shift()];
            if (left !== expected) expect(left).toBe(expected);
          } else {
            queue.clear();
            model.length = 0;
          }
        }
      expect([queue.length, queue.first, queue.last]).toEqual([model.length, model[0], model.at(-1)]);
      expect(Array.from(model, () => queue.shift())).toEqual(model);
      expect(queue.shift()).toBeUndefined();
    }),
    { numRuns: 50 },
  );
});
