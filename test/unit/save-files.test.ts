import { link, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { safeParts, saveFile } from '../../cli/save-files.ts';

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

test('a file whose name the file system takes for that of another of them is refused, and that one stays', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'podgate-save-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  async function* content(text: string) {
    yield new TextEncoder().encode(text);
  }
  const saved = new Set<string>();
  await saveFile(folder, 'data', content('first'), saved);
  // What a file system does that tells no case apart.
  await link(join(folder, 'data'), join(folder, 'Data'));
  await expect(saveFile(folder, 'Data', content('second'), saved)).rejects.toThrow(
    "refusing to save 'Data': to this file system its name is that of another that was just saved",
  );
  expect(await readFile(join(folder, 'data'), 'utf8')).toBe('first');
  expect((await readdir(folder)).sort()).toEqual(['Data', 'data']);
  await saveFile(folder, 'Data', content('another run'));
  expect(await readFile(join(folder, 'Data'), 'utf8')).toBe('another run');
});
