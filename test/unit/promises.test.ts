import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { titlesOf } from './test-titles.ts';

const ROOT = new URL('../../', import.meta.url);
/** `` `test/file.test.ts`: words of the test's name ``, up to the next promise or the end of the cell or bracket. */
const REFERENCE = /`(test\/[\w./-]+\.ts)`: ((?:\([^)\n]*\)|[^·|()\n])+)/g;

type Reference = { file: string; words: string };

function references(document: string): Reference[] {
  const text = readFileSync(new URL(document, ROOT), 'utf8');
  return [...text.matchAll(REFERENCE)].map(([, file, words]) => ({
    file: file as string,
    words: (words as string).trim(),
  }));
}

/** Whether the words are of a test's title. */
function names(source: string, words: string): boolean {
  return titlesOf('source.ts', source).some((title) => title.includes(words));
}

describe.each(['README.md', 'SECURITY.md'])('the promises of %s', (document) => {
  const found = references(document);

  test('name tests', () => {
    expect(found.length).toBeGreaterThan(10);
  });

  test.each(found)('$file has "$words"', ({ file, words }) => {
    const path = new URL(file, ROOT);
    expect(existsSync(path), `${file} does not exist`).toBe(true);
    expect(names(readFileSync(path, 'utf8'), words), `no test in ${file} says so`).toBe(true);
  });
});

describe('a promise', () => {
  test.for([
    ["test('does what it says', () => {});"],
    ["it('does what it says', () => {});"],
    ["describe('what', () => void test('does what it says', () => {}));"],
    ["describeStack('what', {}, () => test.for([1])('%s does what it says', () => {}));"],
    ["test.for([['does what it says', 1]])('%s', () => {});"],
    ["test.skipIf(none)('does what it says', () => {});"],
    [`test(\`of \${MAX} does what it says\`, () => {});`],
  ])('is held by %s', ([source = '']) => {
    expect(names(source, 'does what it says')).toBe(true);
  });

  test.for([
    ["test('does something else', () => {});"],
    ["// test('does what it says', () => {});"],
    ["/** Does: does what it says */ test('something', () => {});"],
    ["test('something', () => void log('does what it says'));"],
    ["test.skip('does what it says', () => {});"],
    ["test.todo('does what it says');"],
    ["describe.skip('what', () => void test('does what it says', () => {}));"],
    ["test.skip.each([['does what it says']])('%s', () => {});"],
  ])('is not held by %s', ([source = '']) => {
    expect(names(source, 'does what it says')).toBe(false);
  });
});
