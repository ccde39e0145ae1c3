import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseUniqueObject } from '../../shared/unique-json.ts';

const parse = (text: string) => parseUniqueObject(new TextEncoder().encode(text));

test('every object that JSON.stringify writes is read as it is', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
      const text = JSON.stringify(value);
      expect(parse(text)).toEqual(JSON.parse(text));
      expect(parse(JSON.stringify(value, null, 2))).toEqual(JSON.parse(text));
    }),
  );
});

test('a member that is named twice at any depth makes it unreadable', () => {
  fc.assert(
    fc.property(fc.string(), fc.jsonValue(), fc.nat(5), (name, value, depth) => {
      const member = `${JSON.stringify(name)} : ${JSON.stringify(value)}`;
      const twice = `${'{"a":[1,'.repeat(depth)}{${member},${member}}${']}'.repeat(depth)}`;
      expect(parse(twice)).toBeNull();
    }),
  );
});

test('the same name in different objects, and names inside strings, are no duplicates', () => {
  for (const text of ['{"a":{"a":1},"b":[{"a":1},{"a":2}]}', '{"a":"\\"a\\":1","b":"{\\"a\\":","c":"}"}']) {
    expect(parse(text)).toEqual(JSON.parse(text));
  }
});

test('text that is no object, or no UTF-8, is unreadable', () => {
  for (const text of ['', '[]', 'null', '1', '"a"', '{', '\ufeff{}']) expect(parse(text)).toBeNull();
  expect(parseUniqueObject(new Uint8Array([0x7b, 0xff, 0x7d]))).toBeNull();
});
