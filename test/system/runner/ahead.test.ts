import { expect, test } from 'vitest';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import { describePython, describeSandbox, expectNext, expectUnharmed, patience, py } from './suite.ts';

describeSandbox('the child that waits for the next program', (sandbox) => {
  test('runs it: nothing is forked for a START', async () => {
    const waiting = await nextChild(sandbox());
    const ran = await sandbox().run('import os\nprint(os.getpid())', {
      onStarted: () => expect(sandbox().waiting()).toBeUndefined(),
    });
    const next = await nextChild(sandbox());
    expect(next).not.toBe(waiting);
    expect(ran.result.exit_code).toBe(0);
    await expectUnharmed(sandbox());
  });

  test('is not there while a program runs, nor while what it left does', async () => {
    const seen: (number | undefined)[] = [];
    const ran = await sandbox().run(
      py`
        import os, sys, time
        zygote, main = os.getppid(), os.getpid()
        def siblings():
            found = []
            for name in filter(str.isdigit, os.listdir("/proc")):
                try: stat = open(f"/proc/{name}/stat").read()
                except OSError: continue
                if int(stat.rpartition(")")[2].split()[1]) == zygote and int(name) != main: found.append(name)
            return found
        if os.fork() == 0:
            os.setsid()
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                if siblings(): os.write(2, b"sibling")
        print(siblings())
      `,
      { onData: () => seen.push(sandbox().waiting()?.pid) },
    );
    expect(ran.stdout).toBe('[]\n');
    expect(ran.stderr).not.toContain('sibling');
    expect(seen.every((pid) => pid === undefined)).toBe(true);
    await expectUnharmed(sandbox());
  });

  test('is no process of the sandbox to PING and RESET', async () => {
    await nextChild(sandbox());
    expect(await sandbox().client.ping(patience())).toMatchObject({ processes: 0 });
    expect(await sandbox().client.reset(patience())).toEqual({ ok: true, leftovers: [] });
    expect(sandbox().waiting()).toBeDefined();
  });

  test('draws other random numbers than the one before', async () => {
    const code = 'import os, random, uuid\nprint(random.random(), uuid.uuid4(), os.urandom(8).hex())';
    const draws = new Set<string>();
    for (let n = 0; n < 5; n += 1) draws.add((await sandbox().run(code)).stdout);
    expect(draws.size).toBe(5);
  });

  test('finds the workspace, the limits and the environment of its own job', async () => {
    await nextChild(sandbox());
    const ran = await sandbox().run(
      'import os, resource\nprint(sorted(os.listdir(".")), os.environ["A"], resource.getrlimit(resource.RLIMIT_CPU)[0], input())',
      { env: { A: 'later' }, files: { 'b.txt': 'b' }, stdin: 'in\n', cpuSeconds: 3 },
    );
    expect(ran.stdout).toMatch(/^\['__main__.py', 'b.txt'\] later \d+ in\n$/);
  });
});

describePython('a waiting child that is killed from outside', (python) => {
  test('is forked again for the program that comes', async () => {
    await using sandbox = await createSandbox({ python });
    for (let n = 0; n < 3; n += 1) {
      process.kill(await nextChild(sandbox), 'SIGKILL');
      while (sandbox.waiting()) await sandbox.client.ping(patience());
      expect((await sandbox.run('print("healed")')).stdout).toBe('healed\n');
      await expectNext(sandbox);
    }
  });

  test('as the program comes loses nothing and runs nothing twice', async () => {
    await using sandbox = await createSandbox({ python });
    for (let n = 0; n < 20; n += 1) {
      const pid = await nextChild(sandbox);
      const running = sandbox.run('print("once")');
      process.kill(pid, 'SIGKILL');
      const ran = await running;
      // Dead before it looked at the job, in between, or after it had begun.
      if (ran.exit.failure) expect(ran.exit.failure).toMatchObject({ code: 'runner_error', started: 'no' });
      else expect(['once\n', '']).toContain(ran.stdout);
      if (ran.exit.result?.exit_code === 0) expect(ran.stdout).toBe('once\n');
    }
    await expectUnharmed(sandbox);
  });
});

/** Resolves with the PID, as the host numbers it, of the child that waits. */
async function nextChild(sandbox: Sandbox): Promise<number> {
  for (;;) {
    const pid = sandbox.waiting()?.pid;
    if (pid !== undefined) return pid;
    await sandbox.client.ping(patience());
  }
}
