import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createSandbox } from '../../fakes/runner-process.ts';
import { describePython, describeSandbox, expectUnharmed, MIB, py } from './suite.ts';

/** 100 MiB in a tmpfs that is larger than the template gives its scratch places. */
const FILL = 'for name in "ab": open("/dev/shm/" + name, "wb").write(b"x" * (50 << 20))';

describeSandbox('the memory of a program', (sandbox) => {
  test('is counted once where its forks share it', async () => {
    const { result } = await sandbox().run(
      py`
        import os, time
        held = bytearray(b"x") * (60 << 20)
        for _ in range(4):
            if os.fork() == 0: time.sleep(60)
        time.sleep(0.5)
      `,
      { memoryBytes: 128 * MIB },
    );
    expect(result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    expect(result.peak_memory_bytes).toBeGreaterThan(60 * MIB);
  });

  test('is also that of its files, where a scratch place has more room than the template says', async () => {
    const ran = await sandbox().run(`${FILL}\nimport time; time.sleep(60)`, { memoryBytes: 64 * MIB });
    expect(ran.result).toMatchObject({ outcome: 'memory_limit', exit_code: 137 });
    await expectUnharmed(sandbox());
  });

  test('is not that of files from before', async () => {
    expect((await sandbox().run(FILL)).result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    const { result } = await sandbox().run('import time; time.sleep(0.5)', { memoryBytes: 64 * MIB });
    expect(result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    await expectUnharmed(sandbox());
  });
});

describePython('the memory of a program', (python) => {
  test('is not what its template preloads', async () => {
    const folder = mkdtempSync('/var/tmp/podgate-preload-');
    chmodSync(folder, 0o755);
    writeFileSync(`${folder}/large.py`, 'block = bytearray(b"x") * (160 << 20)');
    try {
      await using sandbox = await createSandbox({
        python,
        config: { preload: ['large'] },
        env: { PYTHONPATH: folder },
      });
      expect(sandbox.ready.preloaded).toEqual(['large']);
      const { result } = await sandbox.run(
        'import time\nheld = bytearray(b"x") * (48 << 20)\ntime.sleep(0.5)',
        { memoryBytes: 64 * MIB },
      );
      expect(result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
