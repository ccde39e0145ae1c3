import { expect, test } from 'vitest';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { until } from '../../fakes/until.ts';
import { describePython, py } from './suite.ts';

const bash = (sandbox: Sandbox, cmd: string, options: RunOptions = {}) =>
  sandbox.run(cmd, { language: 'bash', session: { do: 'bash' }, ...options });

const SIGWINCH = 28;

/** Whoever watches over it runs no instruction from then on. */
const STOPS = py`
  import os, signal
  print("there", flush=True)
  while True: os.kill(os.getppid(), signal.SIGSTOP)
`;

describePython('a program of a session that stops who watches over it', (python) => {
  for (const place of ['shared', 'fresh'] as const) {
    const kept = async () => {
      const sandbox = await createSandbox({ python, config: { place, languages: ['python', 'bash'] } });
      await sandbox.run('', { language: 'bash', session: { do: 'open', ttl_seconds: 600 } });
      return sandbox;
    };

    test(`is ended at its time with all that it started, and nothing else is (${place})`, async () => {
      await using sandbox = await kept();
      const before = sandbox.processes().length;
      const beside = bash(sandbox, 'until [ -e go ]; do sleep 0.01; done; echo went');
      const started = '(setsid sleep 600 &) ; sleep 600 & ';
      const ran = await bash(sandbox, `${started} exec python3 -c '${STOPS}'`, { timeoutMs: 500 });
      expect(ran.result).toMatchObject({ outcome: 'timed_out', exit_code: null });
      const again = await bash(sandbox, `exec python3 -c '${STOPS}'`, {
        onData: (execution) => execution.cancel('test'),
      });
      expect(again.result).toMatchObject({ outcome: 'cancelled', exit_code: null });
      expect((await bash(sandbox, 'touch go; echo alive')).stdout).toBe('alive\n');
      expect((await beside).stdout).toBe('went\n');
      // Who watched over the last one goes a moment after its last word.
      await until(() => sandbox.processes().length === before);
    });

    test(`holds nobody up by signals that nobody takes to it (${place})`, async () => {
      await using sandbox = await kept();
      const stopped = bash(sandbox, `exec python3 -c '${STOPS}'`, {
        timeoutMs: 2_000,
        onData: (execution) => {
          for (let n = 0; n < 2_000; n += 1) execution.signal(SIGWINCH);
        },
      });
      expect((await bash(sandbox, 'echo alive', { timeoutMs: 1_000 })).stdout).toBe('alive\n');
      expect((await stopped).result).toMatchObject({ outcome: 'timed_out' });
      expect((await bash(sandbox, 'echo alive')).stdout).toBe('alive\n');
    });
  }
});
