import { readdirSync, readlinkSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { RunnerExecution } from '../../../agent/runner/runner-execution.ts';
import { STREAM_WINDOW_BYTES } from '../../../shared/limits.ts';
import { createSandbox, processesBelow, type Sandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { until } from '../../fakes/until.ts';
import { describePython, describeSandbox, expectNext, patience } from './suite.ts';

/** Less than the runner waits for a program that does not begin. */
const SOON_MS = 5_000;

describeSandbox('a program that is cancelled', (sandbox) => {
  test('has no files collected: nobody takes them', async () => {
    const ran = await sandbox().run('open("f", "w").write("x")\nprint("up")\nimport time; time.sleep(60)', {
      onData: (execution, { stdout }) => {
        if (stdout === 'up\n') execution.cancel('caller_left');
      },
    });
    expect(ran.result).toMatchObject({ outcome: 'cancelled', files_omitted_count: 0 });
    expect([...ran.files.keys()]).toEqual([]);
    await expectNext(sandbox());
  });

  test.each([
    ['output', `import os\nos.write(2, b"x" * ${STREAM_WINDOW_BYTES + 6_000})\nNone`],
    ['files', `open("f", "wb").write(b"x" * ${STREAM_WINDOW_BYTES + 6_000})\nNone`],
  ])('when it is over, and its %s wait for a reader, ends at once', async (_name, code) => {
    const ran = await sandbox().run(code, {
      grant: STREAM_WINDOW_BYTES,
      onData: async (execution, { received }) => {
        if (received[2] + received[3] < STREAM_WINDOW_BYTES) return;
        await until(() => sandbox().strays().length === 0);
        execution.cancel('caller_left');
      },
    });
    // It ended by itself where nobody had told the runner yet.
    expect(ran.result.outcome).toMatch(/^(cancelled|exited)$/);
    await expectNext(sandbox());
  });
});

describePython('a program that is cancelled', (python) => {
  test('while its files are looked for leaves a sandbox that can be reset', async (context) => {
    await using sandbox = await createSandbox({ python });
    context.skip(sandbox.runnerDescriptors() === undefined, 'this user may not see what the runner has open');
    const folder = `${sandbox.workspace}/folder`;
    const running = sandbox.run(
      `import os\nos.mkdir("folder")\nfor n in range(40_000): os.mknod(f"folder/{n}")`,
      {
        onExecution: async (execution) => {
          await until(() => opened(sandbox).includes(folder));
          execution.cancel('caller_left');
        },
      },
    );
    expect((await running).result.outcome).toBe('cancelled');
    expect(await sandbox.client.reset(patience())).toEqual({ ok: true, leftovers: [] });
  });
});

/** What the runner has open, by name. */
function opened(sandbox: Sandbox): string[] {
  const folder = `/proc/${sandbox.pid}/fd`;
  return readdirSync(folder).flatMap((name) => {
    try {
      return readlinkSync(`${folder}/${name}`);
    } catch {
      return []; // Closed since.
    }
  });
}

describe.each(['shared', 'fresh'])('in a place that is %s', (place) => {
  describePython('a program that is cancelled', (python) => {
    test('as it is about to begin ends at once', async () => {
      await using sandbox = await createSandbox({ python, config: { place } });
      process.kill(await nextChild(sandbox), 'SIGSTOP');
      const asked = performance.now();
      const ran = await cancelled(sandbox, { timeoutMs: 60_000 });
      expect(performance.now() - asked).toBeLessThan(SOON_MS);
      // Where others share the zygote, it has forked another child for the job by then, which may have begun.
      if (ran.started) expect(ran.exit.result).toMatchObject({ outcome: 'cancelled', exit_code: null });
      else expect(ran.exit.failure).toMatchObject({ code: 'cancelled', started: 'no' });
      expect((await sandbox.run('print("next")')).stdout).toBe('next\n');
    });
  });
});

/** A program that sleeps, cancelled once the runner has all of it. */
async function cancelled(sandbox: Sandbox, options: RunOptions) {
  let execution: RunnerExecution | undefined;
  const running = sandbox.run('import time; time.sleep(60)', {
    ...options,
    onExecution: (begun) => {
      execution = begun;
    },
  });
  await sandbox.client.ping(patience());
  execution?.cancel('caller_left');
  return running;
}

/** Resolves with the PID, as the host numbers it, of the child that waits for a job. */
async function nextChild(sandbox: Sandbox): Promise<number> {
  for (;;) {
    const below = processesBelow(sandbox.pid);
    const parents = new Map(below.map(({ pid, parent }) => [pid, parent]));
    const child = below.find(({ parent }) => parents.get(parent) === sandbox.pid);
    if (child) return child.pid;
    await sandbox.client.ping(patience());
  }
}
