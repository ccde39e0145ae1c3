import { expect, test } from 'vitest';
import { describeSandbox, expectUnharmed, MIB, py } from './suite.ts';

describeSandbox('files collected', (sandbox) => {
  test('are none that are nearly all holes, whatever room there is', async () => {
    const ran = await sandbox().run(py`
      for name, written in (("dense", 2 << 20), ("sparse", 1)):
          with open(name, "wb") as file:
              file.write(b"x" * written)
              file.truncate(2 << 20)
    `);
    expect([...ran.files].map(([path, { byteLength }]) => [path, byteLength])).toEqual([['dense', 2 * MIB]]);
    expect(ran.result.files_omitted).toEqual([{ path: 'sparse', reason: 'sparse' }]);
    await expectUnharmed(sandbox());
  });

  test('have paths that a request may have: longer ones are named', async () => {
    const ran = await sandbox().run(py`
      import os
      for n in range(20):
          os.mkdir("d" * 200)
          os.chdir("d" * 200)
      for length in (76, 77): open("f" * length, "w").close()
    `);
    const folders = `${'d'.repeat(200)}/`.repeat(20);
    expect([...ran.files.keys()]).toEqual([folders + 'f'.repeat(76)]);
    expect(ran.result.files_omitted).toEqual([
      { path: expect.stringContaining(folders), reason: 'path_too_long' },
    ]);
    await expectUnharmed(sandbox());
  });

  test('are told from staged ones by their times too, which lie back', async () => {
    const ran = await sandbox().run('import os, time\nprint(time.time() - os.stat("f").st_mtime > 5)', {
      files: { f: 'x' },
    });
    expect(ran.stdout).toBe('True\n');
    await expectUnharmed(sandbox());
  });
});

describeSandbox(
  'the bound on collected bytes',
  (sandbox) => {
    test('is that of all files together', async () => {
      const ran = await sandbox().run(
        'for name, size in (("a", 600_000), ("b", 600_000), ("c", 400_000), ("d", 1)): open(name, "wb").write(b"x" * size)',
      );
      expect([...ran.files.keys()]).toEqual(['a', 'c']);
      expect(ran.result.files_omitted).toEqual([
        { path: 'b', reason: 'files_max_bytes' },
        { path: 'd', reason: 'files_max_bytes' },
      ]);
      await expectUnharmed(sandbox());
    });
  },
  { config: { files_max_bytes: 1_000_000 } },
);
