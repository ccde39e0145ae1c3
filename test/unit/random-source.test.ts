import { expect, test } from 'vitest';
import { createRandomSource } from '../../gateway/node/random-source.ts';

const DRAWN_BYTES = 4_096;

test('random bytes are drawn many at a time, and none is given twice', () => {
  let draws = 0;
  const counting = (bytes: Uint8Array) => {
    draws += 1;
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = (draws * 7 + at) % 251;
  };
  const random = createRandomSource(counting);
  const expected = (draw: number, from: number, length: number) =>
    Uint8Array.from({ length }, (_, at) => (draw * 7 + from + at) % 251);
  expect(random(15)).toEqual(expected(1, 0, 15));
  expect(random(16)).toEqual(expected(1, 15, 16));
  expect(draws).toBe(1);
  expect(random(DRAWN_BYTES)).toEqual(expected(2, 0, DRAWN_BYTES));
  expect(random(1)).toEqual(expected(3, 0, 1));
  expect(() => random(DRAWN_BYTES + 1)).toThrow(RangeError);
});

test('random bytes stay with whoever got them, and nowhere else', () => {
  let source = new Uint8Array();
  const random = createRandomSource((bytes) => {
    source = crypto.getRandomValues(bytes);
  });
  const first = random(32);
  const kept = Uint8Array.from(first);
  expect(source.subarray(0, 32)).toEqual(new Uint8Array(32));
  random(DRAWN_BYTES);
  expect(first).toEqual(kept);
  expect(new Set(Array.from({ length: 2_000 }, () => random(15).join())).size).toBe(2_000);
});
