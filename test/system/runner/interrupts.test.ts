import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { until } from '../../fakes/until.ts';
import { describePython, patience, py } from './suite.ts';

const SIGINT = 2;

function isPending(pid: number, signal: number): boolean {
  const [, mask = '0'] = /^ShdPnd:\s+(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return ((BigInt(`0x${mask}`) >> BigInt(signal - 1)) & 1n) === 1n;
}

/** Makes the sandbox a session's; gives what runs a piece of its Python. */
async function openPython(sandbox: Sandbox) {
  await sandbox.run('', { language: 'bash', session: { do: 'open', ttl_seconds: 600 } });
  return (code: string, options: RunOptions = {}) =>
    sandbox.run(code, { session: { do: 'python', context: 'main', rich: false }, ...options });
}

describePython('an interrupt of a piece of code', (python) => {
  test('is heeded before its interpreter had a turn to begin, and none is left for the next piece', async () => {
    await using sandbox = await createSandbox({ python, config: { languages: ['python', 'bash'] } });
    const run = await openPython(sandbox);
    await run(py`
      import ctypes
      ctypes.CDLL(None).prctl(15, b"context", 0, 0, 0)
      x = 1
    `);
    const context = () => sandbox.processes().find(({ comm }) => comm === 'context');
    const pid = context()?.pid as number;
    // A machine with too much to do.
    process.kill(pid, 'SIGSTOP');
    // One that has not stopped yet takes what comes meanwhile, and nobody would see it pending.
    await until(() => context()?.state === 'T');
    const struck = await run('print("begun")\nimport time; time.sleep(600)', {
      timeoutMs: 30_000,
      onStarted: async (execution) => {
        execution.signal(SIGINT);
        await until(() => isPending(pid, SIGINT));
        process.kill(pid, 'SIGCONT');
      },
    });
    expect(struck.result).toMatchObject({ outcome: 'exited', exit_code: 1, context: 'kept' });
    expect([struck.stdout, struck.stderr]).toEqual(['', expect.stringContaining('KeyboardInterrupt')]);

    process.kill(pid, 'SIGINT');
    await until(() => !isPending(pid, SIGINT) && context()?.state === 'S');
    expect((await run('x')).stdout).toBe('1\n');
  });

  test('that arrives after its piece has ended is nobody’s', async () => {
    await using sandbox = await createSandbox({ python, config: { languages: ['python', 'bash'] } });
    const run = await openPython(sandbox);
    await run(py`
      import ctypes, signal, time
      ctypes.CDLL(None).prctl(15, b"context", 0, 0, 0)
      signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    `);
    const named = (pid?: number) => sandbox.processes().find((process) => process.pid === pid);
    const context = sandbox.processes().find(({ comm }) => comm === 'context');
    const keeper = named(named(context?.parent)?.parent)?.pid as number;
    // What signals go through has no turn while the piece ends.
    process.kill(keeper, 'SIGSTOP');
    let isOver = false;
    const ends = run('_ = signal.sigwait([signal.SIGUSR1])', {
      onStarted: async (execution) => {
        execution.signal(SIGINT);
        await sandbox.client.ping(patience());
        process.kill(context?.pid as number, 'SIGUSR1');
      },
    }).finally(() => {
      isOver = true;
    });
    for (let turn = 0; turn < 200 && !isOver; turn += 1) await sandbox.client.ping(patience());
    const goOn = () => process.kill(keeper, 'SIGCONT');
    if (!isOver) goOn();
    expect((await ends).result).toMatchObject({ outcome: 'exited', exit_code: 0, context: 'kept' });
    const next = await run('time.sleep(0.5); print("next")', { onStarted: goOn });
    expect([next.stdout, next.stderr]).toEqual(['next\n', '']);
  });
});
