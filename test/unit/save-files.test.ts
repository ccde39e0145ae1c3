import { describe, expect, test } from 'vitest';
import { safeParts } from '../../cli/save-files.ts';

describe('the path of a file that a program made', () => {
  test.for([
    '..\\..\\evil.bat',
    'a/..\\..\\evil.bat',
    '\\\\host\\share\\evil',
    'C:\\evil.bat',
    'C:evil.bat',
    'plot.txt:stream',
  ])('is refused where backslashes separate: %j', (path) => {
    expect(() => safeParts(path, '\\')).toThrow(/refusing to save '.*': the path contains '\\' or ':'/);
    expect(safeParts(path, '/')).toEqual(path.split('/'));
  });

  test('is taken apart at slashes alone, on every machine', () => {
    for (const separator of ['/', '\\'])
      expect(safeParts('a/b c/d.txt', separator)).toEqual(['a', 'b c', 'd.txt']);
  });
});
