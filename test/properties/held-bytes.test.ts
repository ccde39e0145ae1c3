import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HeldBytes } from '../../shared/held-bytes.ts';

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ push: fc.integer({ min: 1, max: 300 }) }) },
  { weight: 1, arbitrary: fc.record({ push: fc.integer({ min: 4_000, max: 40_000 }) }) },
  { weight: 2, arbitrary: fc.record({ forget: fc.double({ min: 0, max: 1, noNaN: true }) }) },
);

test('what is held is what came, from any position that is not forgotten, also in views of before', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1_000 }), fc.array(step, { maxLength: 60 }), (at, steps) => {
      const held = new HeldBytes(at);
      let all = Buffer.alloc(0);
      let forgotten = at;
      const views: [Uint8Array, Buffer][] = [];
      for (const each of steps) {
        if ('push' in each) {
          const bytes = Buffer.from(
            Array.from({ length: each.push }, (_, index) => (all.length + index) % 251),
          );
          all = Buffer.concat([all, bytes]);
          held.push(bytes);
        } else {
          forgotten = Math.max(forgotten, at + Math.floor(all.length * each.forget));
          held.forget(forgotten);
        }
        expect(held.end).toBe(at + all.length);
        expect(held.start).toBeLessThanOrEqual(Math.max(forgotten, at));
        for (const view of held.from(forgotten)) views.push([view, Buffer.from(view)]);
        expect(Buffer.concat([...held.from(forgotten)]).equals(all.subarray(forgotten - at))).toBe(true);
      }
      for (const [view, copy] of views) expect(copy.equals(view)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

test('a window of single bytes is a few pieces', () => {
  const held = new HeldBytes();
  for (let count = 0; count < 262_144; count += 1) held.push(Uint8Array.of(count));
  expect([...held.from(0)]).toHaveLength(8);
});

test('a small piece does not keep the buffer that it was read into', () => {
  const held = new HeldBytes();
  held.push(new Uint8Array(65_536).subarray(0, 1));
  expect([...held.from(0)].map(({ buffer }) => buffer.byteLength)).toEqual([1]);
});
