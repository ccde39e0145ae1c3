import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { makeFolder } from '../../gateway/node/make-folder.ts';
import { startPodgate } from '../fakes/podgate-command.ts';

const PLACE = '/proc/podgate-none/keys';

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'podgate-make-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

test('a folder is made with those that lead to it, and one that is there is as good', async () => {
  const path = join(newFolder(), 'a', 'b', 'c');
  await makeFolder(path, 0o700);
  await makeFolder(path, 0o755);
  for (const each of [path, join(path, '..'), join(path, '..', '..')])
    expect(statSync(each).mode & 0o777).toBe(0o700);
});

test('many that make the same folders at once all have them', async () => {
  const folder = newFolder();
  for (const round of Array(50).keys()) {
    const deep = join(folder, String(round), 'a', 'b');
    await Promise.all([...Array(8).keys()].map((name) => makeFolder(join(deep, String(name)))));
    expect(readdirSync(deep)).toHaveLength(8);
  }
});

test('a file in its place, or on the way to it, is left alone', async () => {
  const file = join(newFolder(), 'file');
  writeFileSync(file, '');
  await expect(makeFolder(file)).rejects.toMatchObject({ code: 'EEXIST' });
  await expect(makeFolder(join(file, 'a', 'b'))).rejects.toMatchObject({ code: 'ENOTDIR' });
});

test.for([
  [['keys', 'init'], { PODGATE_DIR: PLACE }, 2, /^podgate keys: The folder \S+ cannot be made \(ENOENT\)/],
  [['dev'], { FILE_STORAGE_DIR: PLACE, PORT: '0' }, 1, /^podgate dev: The folder .* set FILE_STORAGE_DIR\n$/],
] as const)(
  'podgate %j with %j, where no file can be made, ends and says so',
  async ([args, env, status, says]) => {
    const command = startPodgate(args, { env: { PODGATE_DIR: join(newFolder(), 'keys'), ...env } });
    expect(await command.ended).toMatchObject({ status, stderr: expect.stringMatching(says) });
  },
);
