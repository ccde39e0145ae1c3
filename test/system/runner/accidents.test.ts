import { execFile } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { createSandbox, processesBelow, type Sandbox, SCRATCH } from '../../fakes/runner-process.ts';
import { until } from '../../fakes/until.ts';
import { describePython, expectNext, expectUnharmed, MIB, patience, py } from './suite.ts';

/** What Linux has for whoever opens it, and reads for nobody: the loopback interface has no speed. */
const NO_SPEED = '/sys/devices/virtual/net/lo/speed';

/** What the kernel, or whoever runs the machine, does to a sandbox from outside. */
describePython('a zygote that is killed from outside', (python) => {
  test('between programs is replaced once', async () => {
    await using sandbox = await createSandbox({ python });
    await expectNext(sandbox);
    await killZygote(sandbox);
    const ran = await sandbox.run('print("after")');
    expect(ran.stdout).toBe('after\n');
    const reset = await sandbox.client.reset(patience());
    expect(reset).toEqual({ ok: true, leftovers: [] });
  });

  test('between programs is replaced by one that reads nothing of theirs, nor takes their rights for its own', async () => {
    const folder = mkdtempSync('/var/tmp/podgate-preload-');
    chmodSync(folder, 0o755);
    writeFileSync(
      `${folder}/configured.py`,
      'import os\npath = os.path.expanduser("~/.configured")\nfound = os.path.exists(path) and open(path).read()',
    );
    try {
      const config = { preload: ['configured'] };
      await using sandbox = await createSandbox({ python, config, env: { PYTHONPATH: folder } });
      await sandbox.run(
        'import os\nprint("left", file=open("/tmp/.configured", "w"))\nos.chmod("/srv", 0o700)',
      );
      await killZygote(sandbox);
      expect(await sandbox.client.reset(patience())).toEqual({ ok: true, leftovers: [] });
      const ran = await sandbox.run(
        'import configured, os\nprint(configured.found, oct(os.stat("/srv").st_mode))',
      );
      expect(ran.stdout).toBe('False 0o41777\n');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('between programs is not replaced where something of theirs stays', async () => {
    await using sandbox = await createSandbox({
      python,
      config: { scratch: [...SCRATCH, '/proc/self/task'] },
    });
    await killZygote(sandbox);
    const ran = await sandbox.run('print("after")');
    expect(ran.exit.failure).toMatchObject({ code: 'runner_error', started: 'no' });
    expect(ran.exit.failure?.detail).toContain('files in /proc/self/task');
  });

  test('between programs is replaced also where each has namespaces of its own', async () => {
    await using sandbox = await createSandbox({ python, config: { place: 'fresh' } });
    expect((await sandbox.run('print("before")')).stdout).toBe('before\n');
    kill(Math.min(...sandbox.processes().flatMap(({ pid, parent }) => (parent === sandbox.pid ? pid : []))));
    for (let n = 0; n < 3; n += 1) expect((await sandbox.run(`print(${n})`)).stdout).toBe(`${n}\n`);
  });

  test('takes no program along', async () => {
    await using sandbox = await createSandbox({ python });
    const zygote = zygoteOf(sandbox);
    const ran = await sandbox.run(
      'print("before")\nimport time; time.sleep(0.5)\nprint("after")\nraise SystemExit(3)',
      {
        onData: (_execution, { stdout }) => {
          if (stdout === 'before\n') kill(zygote);
        },
      },
    );
    expect(ran.stdout).toBe('before\nafter\n');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 3 });
    expect((await sandbox.run('print("next")')).stdout).toBe('next\n');
  });

  test('again and again ends the sandbox with a sentence, and no result is made up', async () => {
    await using sandbox = await createSandbox({ python });
    await killZygote(sandbox);
    expect((await sandbox.run('print(1)')).stdout).toBe('1\n');
    await killZygote(sandbox);
    const ran = await sandbox.run('print(2)');
    expect(ran.started).toBe(false);
    expect(ran.exit.failure).toMatchObject({ code: 'runner_error', started: 'no' });
    expect(await sandbox.client.reset(patience())).toEqual({ ok: false, leftovers: [expect.any(String)] });
  });

  test('between programs ends the sandbox with a sentence where no other can be made', async () => {
    await using sandbox = await createSandbox({ python });
    await bound(sandbox, 'NPROC', 1);
    await killZygote(sandbox);
    const ran = await sandbox.run('print("after")');
    expect(ran.exit.failure).toMatchObject({ code: 'runner_error', started: 'no' });
    expect(ran.exit.failure?.detail).toContain('The zygote could not be started');
    expect(await sandbox.client.reset(patience())).toEqual({ ok: false, leftovers: [expect.any(String)] });
  });

  test('or never made for want of a process is what READY says is missing', async () => {
    const folder = mkdtempSync('/var/tmp/podgate-alone-');
    chmodSync(folder, 0o755);
    writeFileSync(
      `${folder}/python3`,
      `#!${python} -IS\nimport os, resource, sys\nresource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\nos.execv(${JSON.stringify(python)}, sys.argv)\n`,
      { mode: 0o755 },
    );
    try {
      await using sandbox = await createSandbox({ python: `${folder}/python3` });
      expect(sandbox.ready.ok).toBe(false);
      expect(sandbox.ready.missing[0]).toContain('The zygote could not be started');
      const ran = await sandbox.run('print("never")');
      expect(ran.exit.failure).toMatchObject({ code: 'runner_error', started: 'no' });
      expect(await sandbox.client.reset(patience())).toMatchObject({ ok: false });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('leaves no program without its end that was cancelled before anybody heard of its begin', async () => {
    await using sandbox = await createSandbox({ python });
    const begun = `/proc/${sandbox.pid}/root${sandbox.workspace}/begun`;
    // The runner is ready before it has one.
    await until(() => sandbox.waiting() !== undefined);
    const child = sandbox.waiting()?.pid as number;
    process.kill(child, 'SIGSTOP');
    const ran = await sandbox.run('open("begun", "w").close()\nimport time; time.sleep(60)', {
      timeoutMs: 3_000,
      onExecution: async (execution) => {
        await sandbox.client.ping(patience());
        process.kill(sandbox.pid, 'SIGSTOP');
        execution.cancel('caller_left');
        await setImmediate();
        process.kill(child, 'SIGCONT');
        await until(() => existsSync(begun));
        const zygote = zygoteOf(sandbox);
        kill(zygote);
        await until(() => processesBelow(zygote as number)[0]?.state === 'Z');
        process.kill(sandbox.pid, 'SIGCONT');
      },
    });
    expect(ran.result).toMatchObject({ outcome: 'cancelled' });
    expect((await sandbox.run('print("next")')).stdout).toBe('next\n');
  });
});

describePython('fresh namespaces that are killed from outside', (python) => {
  test('as soon as they are made are made again, also where they are buried before they are heard of', async () => {
    await using sandbox = await createSandbox({ python, config: { place: 'fresh' } });
    const zygote = Math.min(
      ...sandbox.processes().flatMap(({ pid, parent }) => (parent === sandbox.pid ? pid : [])),
    );
    process.kill(zygote, 'SIGSTOP');
    const ran = await sandbox.run('import time; time.sleep(0.3)\nprint("up")\ntime.sleep(60)', {
      onData: async (execution, { stdout }) => {
        if (stdout !== 'up\n') return;
        // By now it has asked for the next ones. Its end buries whoever has ended by then.
        process.kill(sandbox.pid, 'SIGSTOP');
        execution.cancel('caller_left');
        await setImmediate();
        const known = new Set(processesBelow(sandbox.pid).map(({ pid }) => pid));
        process.kill(zygote, 'SIGCONT');
        let made: number | undefined;
        await until(() => {
          // Who forks has said that it is there.
          const below = processesBelow(sandbox.pid).filter(({ pid }) => !known.has(pid));
          made = below.find(({ pid }) => below.some(({ parent }) => parent === pid))?.pid;
          return made !== undefined;
        });
        kill(made);
        await until(() => processesBelow(made as number)[0]?.state === 'Z');
        process.kill(sandbox.pid, 'SIGCONT');
      },
    });
    expect(ran.result).toMatchObject({ outcome: 'cancelled' });
    expect((await sandbox.run('print("next")')).stdout).toBe('next\n');
  });
});

describePython('a program that is killed from outside', (python) => {
  test('is signaled, and not at its memory limit', async () => {
    await using sandbox = await createSandbox({ python });
    const ran = await sandbox.run('print("up")\nimport time; time.sleep(60)', {
      onData: (_execution, { stdout }) => {
        if (stdout === 'up\n') kill(sandbox.strays()[0]?.pid);
      },
    });
    expect(ran.result).toMatchObject({ outcome: 'signaled', signal: 9, exit_code: 137 });
    await expectUnharmed(sandbox);
  });

  test('is at its memory limit where the control group counts a kill, and its peak is the group’s', async () => {
    await using group = createGroup();
    await using sandbox = await createSandbox({ python, config: { cgroup_root: group.root } });
    expect(sandbox.ready.features.cgroup).toBe('v2');
    const ran = await sandbox.run('print("up")\nimport time; time.sleep(60)', {
      onData: (_execution, { stdout }) => {
        if (stdout !== 'up\n') return;
        group.write({ 'memory.peak': 500 * MIB, 'memory.events': 'low 0\noom 1\noom_kill 1\n' });
        kill(sandbox.strays()[0]?.pid);
      },
    });
    expect(ran.result).toMatchObject({ outcome: 'memory_limit', signal: 9, exit_code: 137 });
    expect(ran.result.peak_memory_bytes).toBe(450 * MIB);
    await expectUnharmed(sandbox);
  });

  test('has none of the memory in its peak’s account that the one before was still giving back', async () => {
    await using group = createGroup();
    group.write({ 'memory.current': 200 * MIB });
    const config = { cgroup_root: group.root, place: 'fresh' };
    await using sandbox = await createSandbox({ python, config });
    const ran = await sandbox.run(
      'print("up")\nimport time; time.sleep(0.5)\nprint("looked at")\ntime.sleep(60)',
      {
        timeoutMs: 30_000,
        onStarted: () => group.write({ 'memory.current': 50 * MIB }),
        onData: (execution, { stdout }) => {
          if (!stdout.endsWith('at\n')) return;
          group.write({ 'memory.peak': 500 * MIB });
          execution.cancel('seen');
        },
      },
    );
    expect(ran.result.peak_memory_bytes).toBe(450 * MIB);
  });

  test.each([
    ['at its memory limit where the control group counts a kill', 1],
    ['no outcome where nobody counts one', 0],
  ])('with what holds its namespaces is %s', async (_name, kills) => {
    await using group = createGroup();
    await using sandbox = await createSandbox({
      python,
      config: { cgroup_root: group.root, place: 'fresh' },
    });
    const ran = await sandbox.run('print("up")\nimport time; time.sleep(60)', {
      onData: (_execution, { stdout }) => {
        if (stdout !== 'up\n') return;
        group.write({ 'memory.events': `oom_kill ${kills}\n` });
        kill(sandbox.processes().find(({ pid }) => isProgram(pid))?.parent);
      },
    });
    const limit = { outcome: 'memory_limit', signal: 9, exit_code: 137 };
    const lost = { code: 'runner_error', started: 'yes' };
    expect(ran.exit).toMatchObject(
      kills > 0 ? { result: limit, failure: null } : { result: null, failure: lost },
    );
    expect((await sandbox.run('print("next")')).stdout).toBe('next\n');
  });

  test('in a tree that is deeper than the runner can open has what lies too deep for it named', async () => {
    await using sandbox = await createSandbox({ python });
    await bound(sandbox, 'NOFILE', 64);
    const ran = await sandbox.run(py`
      import os
      open("here", "w").close()
      for n in range(100):
          os.mkdir("d")
          os.chdir("d")
      open("there", "w").close()
    `);
    expect([...ran.files.keys()]).toEqual(['here']);
    expect(ran.result.files_omitted).toEqual([
      { path: expect.stringMatching(/^d(\/d)+$/), reason: 'unreadable' },
    ]);
    expect((await sandbox.run('print("next")')).stdout).toBe('next\n');
  });

  test('leaves a file that can be opened and not read, and it is named', async (context) => {
    if (process.getuid?.() !== 0) context.skip('only root may mount something in a sandbox that runs');
    await using sandbox = await createSandbox({ python });
    await sandbox.run('open("a", "w").close()');
    const mount = ['mount', '--bind', NO_SPEED, `${sandbox.workspace}/a`];
    await promisify(execFile)('nsenter', [`--target=${sandbox.pid}`, '--mount', '--', ...mount]);
    const next = await sandbox.run('print("z", file=open("z", "w"))');
    expect(next.result.files_omitted).toEqual([{ path: 'a', reason: 'unreadable' }]);
    expect([...next.files.keys()]).toEqual(['z']);
  });

  test('has no result where nothing can be listed any more, and its sandbox goes on', async (context) => {
    if (process.getuid?.() !== 0) context.skip('only root may see what the runner has open');
    await using sandbox = await createSandbox({ python });
    const open = () => readdirSync(`/proc/${sandbox.pid}/fd`).map(Number);
    const idle = open().length;
    const ran = await sandbox.run(
      'import os, time\nprint("up")\nos.close(1)\nos.close(2)\nwhile not os.path.exists("/tmp/go"): time.sleep(0.01)',
      {
        onData: async () => {
          await until(() => open().length === idle);
          const fds = open();
          const free = fds.findIndex((_, n) => !fds.includes(n));
          await bound(sandbox, 'NOFILE', (free < 0 ? fds.length : free) + 1);
          await sandbox.neighbour('open("/tmp/go", "w")');
        },
      },
    );
    expect(ran.exit.failure).toMatchObject({ code: 'runner_error', started: 'yes' });
    expect(ran.exit.failure?.detail).toContain('files could not be read');
    expect((await sandbox.client.ping(patience())).processes).toBe(0);
  });

  test('has nothing of the peak of the one before', async () => {
    await using group = createGroup();
    group.write({ 'memory.peak': 240 * MIB });
    await using sandbox = await createSandbox({ python, config: { cgroup_root: group.root } });
    expect((await sandbox.run('1')).result.peak_memory_bytes).toBeLessThan(100 * MIB);
  });

  test.each([
    ['is shared with strangers', { 'cgroup.procs': '0\n1\n2\n' }],
    ['is another’s', { 'cgroup.procs': '2\n' }],
    ['has no limit', { 'memory.max': 'max\n' }],
    ['has a limit that is none', { 'memory.max': '9223372036854771712\n' }],
  ])('is measured by /proc where the control group %s', async (_name, files) => {
    await using group = createGroup();
    group.write(files);
    await using sandbox = await createSandbox({ python, config: { cgroup_root: group.root } });
    expect(sandbox.ready.features.cgroup).toBeNull();
    const ran = await sandbox.run(py`
      block = bytearray(b"x") * (50 << 20)
      import time; time.sleep(0.2)
    `);
    expect(ran.result.peak_memory_bytes).toBeGreaterThan(50 * MIB);
    expect(ran.result.peak_memory_bytes).toBeLessThan(150 * MIB);
  });
});

/** One of those that the kernel is to end first: no process of Podgate's. */
function isProgram(pid: number): boolean {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return readFileSync(`/proc/${pid}/oom_score_adj`, 'latin1') === '1000\n' && !/^Name:\tpodgate/.test(status);
}

function zygoteOf(sandbox: Sandbox): number | undefined {
  return sandbox.processes().find((process) => process.parent === sandbox.pid)?.pid;
}

/** Resolves when the runner has buried it and heard of its end: while the kernel takes it down its child takes the next job. */
async function killZygote(sandbox: Sandbox): Promise<void> {
  const zygote = zygoteOf(sandbox);
  kill(zygote);
  while (existsSync(`/proc/${zygote}`)) await sandbox.client.ping(patience());
  await sandbox.client.ping(patience());
}

/** The most of it that the kernel lets the runner have from here on. */
async function bound(sandbox: Sandbox, limit: 'NPROC' | 'NOFILE', most: number): Promise<void> {
  await sandbox.neighbour(`import resource as r; r.prlimit(1, r.RLIMIT_${limit}, (${most}, ${most}))`);
}

function kill(pid: number | undefined): void {
  process.kill(pid as number, 'SIGKILL');
}

const GROUP_FILE_BYTES = 64;

/** A control group of version 2 as files say it, where the sandbox can read it. */
function createGroup() {
  const root = mkdtempSync('/var/tmp/podgate-group-');
  chmodSync(root, 0o755);
  const write = (files: Record<string, string | number>) => {
    for (const [name, content] of Object.entries(files)) {
      // Over what is there, at one length: the runner reads at any time, and a kernel's file is never empty.
      const fd = openSync(`${root}/${name}`, constants.O_WRONLY | constants.O_CREAT);
      writeSync(fd, `${content}`.padEnd(GROUP_FILE_BYTES, '\n'));
      closeSync(fd);
    }
  };
  write({
    'memory.current': 50 * MIB,
    'memory.peak': 60 * MIB,
    'memory.max': 256 * MIB,
    'memory.events': 'low 0\noom 0\noom_kill 0\n',
    'cgroup.procs': '1\n2\n',
  });
  return { root, write, [Symbol.asyncDispose]: async () => rmSync(root, { recursive: true }) };
}
