import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

const ROOT = new URL('../../', import.meta.url);
/** `` `test/file.test.ts`: words of the test's name ``, up to the next promise or the end of the cell. */
const REFERENCE = /`(test\/[\w./-]+\.ts)`: ([^·|)\n]+)/g;

type Reference = { file: string; words: string };

function references(document: string): Reference[] {
  const text = readFileSync(new URL(document, ROOT), 'utf8');
  return [...text.matchAll(REFERENCE)].map(([, file, words]) => ({
    file: file as string,
    words: (words as string).trim(),
  }));
}

/** Whether a test source names the words: as its author wrote them, whichever quotes stand around. */
function names(source: string, words: string): boolean {
  return source.replaceAll("\\'", "'").includes(words);
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

test('a promise whose test is gone is found', () => {
  expect(names("test('does what it says', () => {", 'does something else')).toBe(false);
});
