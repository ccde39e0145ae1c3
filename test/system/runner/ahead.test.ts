import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import { until } from '../../fakes/until.ts';
import { describePython, describeSandbox, expectNext, expectUnharmed, MIB, patience, py } from './suite.ts';

describeSandbox('the child that waits for the next program', (sandbox) => {
  test('runs it: nothing is forked for a START', async () => {
    const waiting = await nextChild(sandbox());
    const inside = /^NSpid:.*\s(\d+)$/m.exec(readFileSync(`/proc/${waiting}/status`, 'latin1'))?.[1];
    const ran = await sandbox().run('import os\nprint(os.getpid())');
    expect(ran.stdout).toBe(`${inside}\n`);
    expect(await nextChild(sandbox())).not.toBe(waiting);
    await expectUnharmed(sandbox());
  });

  test('is not there while a program runs, nor while what it left does', async () => {
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
    );
    expect(ran.stdout).toBe('[]\n');
    expect(ran.stderr).not.toContain('sibling');
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

  test('is forked again without a rehearsal: the program is there', async () => {
    await using sandbox = await createSandbox({ python });
    let rehearsed = 0;
    // On a busy machine a child leaves its rehearsal out, where its program comes soon.
    for (let n = 0; n < 5; n += 1) {
      await nextChild(sandbox);
      rehearsed = Math.max(rehearsed, await collections(sandbox));
    }
    process.kill(await nextChild(sandbox), 'SIGKILL');
    while (sandbox.waiting()) await sandbox.client.ping(patience());
    expect(await collections(sandbox)).toBe(rehearsed - 1);
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

describeSandbox(
  'a cell that is made ahead',
  (sandbox) => {
    test('serves one program and no other', async () => {
      const seen = new Set<string>();
      for (let n = 0; n < 5; n += 1) {
        const ran = await sandbox().run(py`
          import os, random
          kinds = ("user", "pid", "mnt", "ipc", "net")
          print(*(os.readlink(f"/proc/self/ns/{kind}") for kind in kinds), os.getpid(), random.random(), os.listdir("/tmp"))
          open("/tmp/left", "w").close()
        `);
        expect(ran.stdout).toMatch(/ 2 0\.\d+ \[\]\n$/);
        seen.add(ran.stdout);
      }
      expect(seen.size).toBe(5);
    });

    test.each([
      ['a child', 'os.fork()'],
      ['an orphan', 'os.fork() or os._exit(0) if os.fork() == 0 else 1'],
      ['a child that ends without a signal', 'libc.syscall(NR_CLONE, 0, 0, 0, 0, 0)'],
    ])('ends with %s that the program left', async (_name, fork) => {
      const begun = performance.now();
      const ran = await sandbox().run(py`
        import ctypes, os, time
        libc = ctypes.CDLL(None)
        NR_CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
        if ${fork} == 0:
            libc.prctl(15, b"leftover", 0, 0, 0)
            while True: time.sleep(1)
        os.write(1, b"main")
        None
      `);
      expect(ran.stdout).toBe('main');
      expect(performance.now() - begun).toBeLessThan(1_900);
      expect(
        sandbox()
          .processes()
          .filter(({ comm }) => comm === 'leftover'),
      ).toEqual([]);
    });

    test('is made for each of many programs in a row, and the ones that served them go', async () => {
      const cells = () =>
        sandbox()
          .processes()
          .filter(({ pid, parent }) => parent === sandbox().pid && isFirst(pid));
      for (let n = 0; n < 30; n += 1) {
        const ran = await sandbox().run(
          `import os\nprint(${n}, os.listdir("/tmp"))\nopen("/tmp/left", "w").close()`,
        );
        expect(ran.stdout).toBe(`${n} []\n`);
        // The one that served it, the one before, and the next.
        expect(cells().length).toBeLessThanOrEqual(3);
      }
      await until(() => cells().length === 1);
      expect((await sandbox().run('print("next")')).stdout).toBe('next\n');
    });

    test('is not charged for the one before', async () => {
      const burnt = await sandbox().run('import time\nwhile time.process_time() < 0.5: pass');
      expect(burnt.result.cpu_ms).toBeGreaterThanOrEqual(500);
      const ran = await sandbox().run('import time; time.sleep(60)', { timeoutMs: 200 });
      expect(ran.result.outcome).toBe('timed_out');
      expect(ran.result.cpu_ms).toBeLessThan(400);
    });

    test('for a program that is there already goes through no rehearsal', async () => {
      const seen = new Set<number>();
      while (seen.size < 2) {
        await nextCell(sandbox());
        for (let n = 0; n < 2; n += 1) seen.add(await collections(sandbox()));
      }
      expect(Math.max(...seen) - Math.min(...seen)).toBe(1);
    });

    test('that dies unused is made again', async () => {
      for (let n = 0; n < 2; n += 1) {
        const cell = await nextCell(sandbox());
        process.kill(cell, 'SIGKILL');
        while ((await nextCell(sandbox())) === cell) await sandbox().client.ping(patience());
        expect((await sandbox().run('print("healed")')).stdout).toBe('healed\n');
      }
    });
  },
  { config: { place: 'fresh' } },
);

describePython('a cell below a zygote whose libraries have threads and fork handlers', (python) => {
  test.for(['numpy', 'pandas'])('%s, runs programs', async (name, context) => {
    const found = spawnSync(python, ['-c', `import ${name}`], { encoding: 'utf8' });
    if (found.status !== 0) return context.skip(`${python} has no ${name}`);
    const limits = {
      memory_bytes: 1024 * MIB,
      cpu_seconds: 20,
      processes: 64,
      open_files: 256,
      file_bytes: MIB,
    };
    await using sandbox = await createSandbox({
      python,
      config: { place: 'fresh', preload: [name], limits },
    });
    expect(sandbox.ready.preloaded).toEqual([name]);
    for (let n = 0; n < 3; n += 1) {
      const ran = await sandbox.run(
        'import sys, numpy\nprint(int((numpy.ones((200, 200)) @ numpy.ones((200, 200))).sum()))',
      );
      expect(ran.stdout).toBe('8000000\n');
    }
    return undefined;
  });
});

/** Collections that a program finds behind it: one of them is its child's rehearsal's. */
async function collections(sandbox: Sandbox): Promise<number> {
  return Number((await sandbox.run('import gc\ngc.get_stats()[2]["collections"]')).stdout);
}

/** Resolves with the PID, as the host numbers it, of the PID 1 of a cell. */
async function nextCell(sandbox: Sandbox): Promise<number> {
  for (;;) {
    const cell = sandbox.processes().find(({ pid, parent }) => parent === sandbox.pid && isFirst(pid));
    if (cell) return cell.pid;
    await sandbox.client.ping(patience());
  }
}

/** Whether it is PID 1 of a namespace below the sandbox's own. */
function isFirst(pid: number): boolean {
  try {
    return /^NSpid:(?:\s+\d+){2,}\s+1$/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

/** Resolves with the PID, as the host numbers it, of the child that waits. */
async function nextChild(sandbox: Sandbox): Promise<number> {
  for (;;) {
    const pid = sandbox.waiting()?.pid;
    if (pid !== undefined) return pid;
    await sandbox.client.ping(patience());
  }
}
