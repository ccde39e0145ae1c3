import { expect, test } from 'vitest';
import { createSandbox } from '../../fakes/runner-process.ts';
import { describePython, MIB, py } from './suite.ts';

const LIMITS = {
  memory_bytes: 128 * MIB,
  cpu_seconds: 20,
  processes: 64,
  open_files: 99,
  file_bytes: 3 * MIB,
};

describePython('work of a session', (python) => {
  const kept = async () => {
    const sandbox = await createSandbox({
      python,
      config: { languages: ['python', 'bash'], limits: LIMITS },
    });
    await sandbox.run('', { language: 'bash', session: { do: 'open', ttl_seconds: 600 } });
    return sandbox;
  };

  test('has the limits of its template, a command and Python alike', async () => {
    await using sandbox = await kept();
    const show = 'for name in c f n; do ulimit -H$name; done';
    const command = await sandbox.run(show, { language: 'bash', session: { do: 'bash' } });
    // Blocks of 1,024 bytes.
    expect(command.stdout).toBe(`0\n${LIMITS.file_bytes / 1_024}\n${LIMITS.open_files}\n`);
    const code = py`
      import resource
      for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE): print(resource.getrlimit(kind)[1])
    `;
    const ran = await sandbox.run(code, { session: { do: 'python', context: 'main', rich: false } });
    expect(ran.stdout).toBe(`1\n${LIMITS.file_bytes}\n${LIMITS.open_files}\n`);
  });

  test('is charged for what it used itself, and for nothing of the piece of code before', async () => {
    await using sandbox = await kept();
    const burn = py`
      import time
      until = time.process_time() + 0.7
      while time.process_time() < until: pass
    `;
    const session = { do: 'python', context: 'main', rich: false } as const;
    for (let n = 0; n < 3; n += 1) {
      const { result } = await sandbox.run(burn, { session, cpuSeconds: 1 });
      expect(result).toMatchObject({ outcome: 'exited', exit_code: 0 });
      expect(result.cpu_ms).toBeGreaterThanOrEqual(600);
      expect(result.cpu_ms).toBeLessThan(1_000);
    }
    const ended = await sandbox.run('import os; os._exit(3)', { session, cpuSeconds: 1 });
    expect(ended.result).toMatchObject({ outcome: 'exited', exit_code: 3 });
    expect(ended.result.cpu_ms).toBeLessThan(600);
  });
});
