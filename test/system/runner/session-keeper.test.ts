import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { STREAM_WINDOW_BYTES } from '../../../shared/limits.ts';
import { createSandbox, processesBelow, type Sandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { until } from '../../fakes/until.ts';
import { describePython } from './suite.ts';

const OPEN = { language: 'bash', session: { do: 'open', ttl_seconds: 600 } } as const;
const PYTHON = { session: { do: 'python', context: 'main', rich: false } } as const;
const WORK: Record<string, RunOptions> = {
  'a command that is fed': { language: 'bash', session: { do: 'bash', input: true } },
  'a terminal': { language: 'bash', session: { do: 'terminal', rows: 24, columns: 80 } },
  'a piece of Python': PYTHON,
};

const LARGE = { files: { large: Buffer.alloc(2 * STREAM_WINDOW_BYTES) } };
const LOST = { code: 'runner_error', started: 'no' };

/** Has the runner find, in one look, what `ask` sends and then the end of `victim`. */
async function killBehind<Asked>(sandbox: Sandbox, victim: number, ask: () => Asked) {
  process.kill(sandbox.pid, 'SIGSTOP');
  const asked = ask();
  await setImmediate();
  process.kill(victim, 'SIGKILL');
  await until(() => !processesBelow(sandbox.pid).some(({ pid, state }) => pid === victim && state !== 'Z'));
  process.kill(sandbox.pid, 'SIGCONT');
  return { asked };
}

/** What starts a session's programs, killed from outside: as by the kernel, where memory ends. */
describePython('a session whose keeper is killed', (python) => {
  for (const place of ['shared', 'fresh'] as const) {
    const kept = async () => {
      const sandbox = await createSandbox({ python, config: { place, languages: ['python', 'bash'] } });
      await sandbox.run('', OPEN);
      const [keeper] = sandbox.strays();
      return { sandbox, keeper: keeper?.pid as number };
    };

    test.each(Object.entries(WORK))(
      `says of %s that came just before that it has not begun (${place})`,
      async (_, work) => {
        const { sandbox, keeper } = await kept();
        await using _sandbox = sandbox;
        const { asked } = await killBehind(sandbox, keeper, () => sandbox.run('', work));
        expect((await asked).exit.failure).toMatchObject(LOST);
        expect((await sandbox.run('', work)).exit.failure).toMatchObject(LOST);
      },
    );

    test.each(Object.entries(WORK))(
      `says so of %s whose input was still coming (${place})`,
      async (_, work) => {
        const { sandbox, keeper } = await kept();
        await using _sandbox = sandbox;
        const { asked } = await killBehind(sandbox, keeper, () => sandbox.run('', { ...work, ...LARGE }));
        expect((await asked).exit.failure).toMatchObject(LOST);
        expect((await sandbox.run('', work)).exit.failure).toMatchObject(LOST);
      },
    );

    test(`is told of code that was cancelled just before that it ended (${place})`, async () => {
      const { sandbox, keeper } = await kept();
      await using _sandbox = sandbox;
      const ran = await sandbox.run('print("up")\nimport time; time.sleep(60)', {
        ...PYTHON,
        onData: (execution, { stdout }) => {
          if (stdout === 'up\n') void killBehind(sandbox, keeper, () => execution.cancel('test'));
        },
      });
      expect(ran.result).toMatchObject({ outcome: 'cancelled', context: 'lost' });
      expect((await sandbox.run('1', PYTHON)).exit.failure).toMatchObject(LOST);
    });
  }

  test('does not begin where its files were still coming when the zygote was killed', async () => {
    await using sandbox = await createSandbox({ python, config: { languages: ['python', 'bash'] } });
    const [zygote] = sandbox.processes().filter(({ parent }) => parent === sandbox.pid);
    const { asked } = await killBehind(sandbox, zygote?.pid as number, () =>
      sandbox.run('', { ...OPEN, ...LARGE }),
    );
    // And not that it took too long.
    expect((await asked).exit.failure).toMatchObject({ ...LOST, detail: expect.stringContaining('ended') });
  });

  test('is told apart from one whose namespaces outlive the zygote that made them', async () => {
    await using sandbox = await createSandbox({
      python,
      config: { place: 'fresh', languages: ['python', 'bash'] },
    });
    const [zygote] = sandbox.processes().filter(({ parent }) => parent === sandbox.pid);
    await sandbox.run('', OPEN);
    await sandbox.run('kept = 1', PYTHON);
    process.kill(zygote?.pid as number, 'SIGKILL');
    await until(() => !processesBelow(sandbox.pid).some(({ pid }) => pid === zygote?.pid));
    expect((await sandbox.run('print(kept)', PYTHON)).stdout).toBe('1\n');
    const bash = { language: 'bash', session: { do: 'bash', input: false } } as const;
    expect((await sandbox.run('echo up', bash)).stdout).toBe('up\n');
  });
});
