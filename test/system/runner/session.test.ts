import { expect, test } from 'vitest';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { until } from '../../fakes/until.ts';
import { describePython, py } from './suite.ts';

const open = { language: 'bash', session: { do: 'open', ttl_seconds: 600 } } as const;
const bash = (sandbox: Sandbox, cmd: string, options: RunOptions = {}) =>
  sandbox.run(cmd, { language: 'bash', session: { do: 'bash' }, ...options });

const PROCESSES = 64;
const KILLS = 10;

/** Of a program that says when it is to be interrupted; asked for twice it is still no kill. */
const cancelled: RunOptions = {
  timeoutMs: 60_000,
  onData: (execution, { stdout, stderr }) => {
    if (stdout !== 'there\n' || stderr !== '') return;
    execution.cancel('test');
    execution.cancel('test');
  },
};

/** Prints what it could do to the process that watches over it and to the one that starts programs. */
const HARM = py`
  import os, signal
  warden = os.getppid()
  keeper = int(open("/proc/%d/stat" % warden).read().rsplit(")", 1)[1].split()[1])
  for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
      for target in (keeper, -keeper, -1):
          try:
              os.kill(target, number)
              print("sent", number)
          except (PermissionError, ProcessLookupError):
              pass
  for name in ("mem", "environ", "fd", "maps"):
      for pid in (keeper, warden):
          try:
              path = "/proc/%d/%s" % (pid, name)
              os.listdir(path) if name == "fd" else open(path).read(1)
              print("read", name)
          except PermissionError:
              pass
`;

/** Kills what watches over the next commands as soon as it is there, one after the other. */
const KILLER = py`
  import os, signal, time
  def parent(pid):
      return int(open("/proc/%s/stat" % pid).read().rsplit(")", 1)[1].split()[1])
  warden = os.getppid()
  keeper = parent(warden)
  print("ready", flush=True)
  killed = set()
  while len(killed) < ${KILLS}:
      time.sleep(0.0002)
      for pid in os.listdir("/proc"):
          try:
              if pid.isdigit() and int(pid) != warden and parent(pid) == keeper:
                  os.kill(int(pid), signal.SIGKILL)
                  killed.add(pid)
          except OSError:
              pass
`;

describePython('a sandbox that is kept', (python) => {
  for (const place of ['shared', 'fresh'] as const) {
    const kept = async () => {
      const sandbox = await createSandbox({
        python,
        config: { place, languages: ['python', 'bash'], limits: { processes: PROCESSES } },
      });
      const opened = await sandbox.run('', { ...open, files: { 'in/a.txt': 'one' } });
      expect(opened.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
      return sandbox;
    };

    test(`keeps files from one command to the next (${place})`, async () => {
      await using sandbox = await kept();
      const first = await bash(sandbox, 'cat in/a.txt; echo two > b; pwd; exit 3');
      expect(first.result).toMatchObject({ outcome: 'exited', exit_code: 3 });
      const again = await bash(sandbox, 'cat b; ls -A; cd /; x=1');
      expect(again.stdout).toBe('two\nb\nin\n');
      expect((await bash(sandbox, 'echo "$PWD:$x"')).stdout).toBe('/srv:\n');
      const listed = await bash(sandbox, '-a || echo "$0"');
      expect([listed.stdout, listed.stderr]).toEqual(['bash\n', 'bash: line 1: -a: command not found\n']);
      expect(first.stdout).toBe('one/srv\n');
    });

    test(`ends what a command left when it ends (${place})`, async () => {
      await using sandbox = await kept();
      const before = sandbox.processes().length;
      const ran = await bash(sandbox, '(setsid sleep 100 & sleep 200 &) ; sleep 300 & echo done');
      expect(ran.stdout).toBe('done\n');
      // Who watched over it goes a moment after its last word.
      await until(() => sandbox.processes().length === before);
    });

    test(`holds nothing of commands that are over, however large they were (${place})`, async () => {
      await using sandbox = await kept();
      const large = `# ${'x'.repeat(8_000_000)}\necho done`;
      expect((await bash(sandbox, large)).stdout).toBe('done\n');
      const beforeBytes = sandbox.runnerMemoryBytes();
      for (let n = 0; n < 6; n += 1) expect((await bash(sandbox, large)).stdout).toBe('done\n');
      expect(sandbox.runnerMemoryBytes() - beforeBytes).toBeLessThan(2 * large.length);
    });

    test(`cannot harm what starts commands (${place})`, async () => {
      await using sandbox = await kept();
      const ran = await bash(sandbox, `exec python3 -c '${HARM}'`);
      expect(ran.stderr + ran.stdout).toBe('');
      const killed = await bash(sandbox, '(setsid sleep 100 &); kill -9 $PPID; sleep 100');
      expect(killed.result).toMatchObject({ outcome: 'signaled', signal: 9 });
      expect((await bash(sandbox, 'echo alive')).stdout).toBe('alive\n');
      await until(() => !sandbox.processes().some(({ comm }) => comm === 'sleep'));
    });

    test(`says of no command that it has not begun whose watcher was killed (${place})`, async () => {
      await using sandbox = await kept();
      const killer = bash(sandbox, `exec python3 -c '${KILLER}'`, {
        timeoutMs: 60_000,
        onData: (_execution, { stdout }) => void (stdout.endsWith('ready\n') && ready.resolve()),
      });
      const ready = Promise.withResolvers<void>();
      await ready.promise;
      const signals = new Set<string | number | null>();
      let isOver = false;
      const ended = killer.then(() => {
        isOver = true;
      });
      while (!isOver) signals.add((await bash(sandbox, 'sleep 0.1')).result.signal);
      await ended;
      expect([...signals]).toContain(9);
      expect((await killer).result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    });

    test(`tells limits apart, and keeps an interpreter where it can (${place})`, async () => {
      await using sandbox = await kept();
      const python = (code: string, options: RunOptions = {}) =>
        sandbox.run(code, { session: { do: 'python', context: 'main', rich: false }, ...options });
      const busy = await bash(sandbox, 'while :; do :; done', { cpuSeconds: 1 });
      expect(busy.result).toMatchObject({ outcome: 'cpu_limit', exit_code: 152, signal: 24 });
      const flood = await bash(sandbox, 'yes | head -c 5000000', { outputLimitBytes: 100_000 });
      expect(flood.result).toMatchObject({ outcome: 'output_limit', exit_code: 137 });
      const loop = await python('x = 1\nwhile True: pass', { cpuSeconds: 1 });
      expect(loop.result).toMatchObject({ outcome: 'cpu_limit', exit_code: 152, context: 'kept' });
      expect((await python('x')).stdout).toBe('1\n');
      const shared =
        'import mmap\nm = mmap.mmap(-1, 600 << 20)\nfor i in range(0, 600 << 20, 4096): m[i] = 1';
      const large = await python(shared);
      expect(large.result).toMatchObject({ outcome: 'memory_limit', exit_code: 137, context: 'lost' });
      expect((await python('"x" in globals()')).stdout).toBe('False\n');
    }, 60_000);

    test(`ends with an interrupted piece of code what it had started, and nothing from before (${place})`, async () => {
      await using sandbox = await kept();
      const python = (code: string, options: RunOptions = {}) =>
        sandbox.run(code, { session: { do: 'python', context: 'main', rich: false }, ...options });
      const before = sandbox.processes().length;
      await python('import os, signal, subprocess, time\nx = 1');
      // The interrupt goes to the interpreter's group, as a terminal's does.
      await python('old = subprocess.Popen(["sleep", "100"], start_new_session=True)');
      // Forks that the interrupt does not reach, one without a parent, and one that starts others without end.
      const left = py`
        def loose(again):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    while True:
                        time.sleep(0.01)
                        if again:
                            pid = os.fork()
                            if pid == 0: os._exit(0)
                            os.waitpid(pid, 0)
                os._exit(0)
        new = subprocess.Popen(["sleep", "200"], start_new_session=True)
        loose(False)
        loose(True)
        print("there", flush=True)
        time.sleep(600)
      `;
      const ran = await python(left, cancelled);
      expect(ran.result).toMatchObject({ outcome: 'cancelled', exit_code: null, context: 'kept' });
      const look = 'import os\nprint(old.poll(), new.poll(), x)';
      expect((await python(look)).stdout).toBe('None -9 1\n');
      const alive = sandbox.processes().filter(({ state }) => state !== 'Z');
      // The interpreter, who watches over it, and what was there before.
      expect(alive.length - before).toBe(3);
    }, 60_000);

    test(`takes a piece of code that is cancelled after its time for cancelled, and keeps its interpreter (${place})`, async () => {
      await using sandbox = await kept();
      const python = (code: string, options: RunOptions = {}) =>
        sandbox.run(code, { session: { do: 'python', context: 'main', rich: false }, ...options });
      const heeds = py`
        import time
        x = 1
        try: time.sleep(600)
        except KeyboardInterrupt:
            print("heard", flush=True)
            time.sleep(0.3)
      `;
      const ran = await python(heeds, {
        timeoutMs: 300,
        onData: (execution, { stdout }) => {
          if (stdout === 'heard\n') execution.cancel('test');
        },
      });
      expect(ran.result).toMatchObject({ outcome: 'cancelled', context: 'kept' });
      expect((await python('x')).stdout).toBe('1\n');
    });

    test(`shows an error whose class has attributes of its own, and keeps its interpreter (${place})`, async () => {
      await using sandbox = await kept();
      const python = (code: string) =>
        sandbox.run(code, { session: { do: 'python', context: 'main', rich: false } });
      await python('x = 1\ndef odd(_): raise OSError("odd")');
      for (const own of ['__traceback__', '__class__']) {
        const ran = await python(`class Odd(Exception): ${own} = property(odd)\nraise Odd("x")`);
        expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 1, context: 'kept' });
        expect(ran.stderr).toMatch(/"<execution \d>", line 2, in <module>\n.*Odd: x\n$/s);
        expect(ran.stderr).not.toContain('podgate');
      }
      expect((await python('x')).stdout).toBe('1\n');
    });

    test(`ends an interpreter that has more than half of what may live there, where it is not to be waited for (${place})`, async () => {
      await using sandbox = await kept();
      const python = (code: string, options: RunOptions = {}) =>
        sandbox.run(code, { session: { do: 'python', context: 'main', rich: false }, ...options });
      // One takes every interrupt; those that it forks take none.
      const crowd = (count: number) => py`
        import os, signal, time
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        for _ in range(${count}):
            if os.fork() == 0: time.sleep(600)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        print("there", flush=True)
        time.sleep(600)
      `;
      const some = await python(crowd(PROCESSES / 2 - 1), cancelled);
      expect(some.result).toMatchObject({ outcome: 'cancelled', context: 'kept' });
      await python('while True:\n  try: os.wait()\n  except OSError: break');
      const many = await python(crowd(PROCESSES / 2), cancelled);
      expect(many.result).toMatchObject({ outcome: 'cancelled', context: 'lost' });
      expect((await python('1')).stdout).toBe('1\n');
    }, 60_000);

    test(`lets programs weigh less than what ends them, where it is told to (${place})`, async () => {
      const config = { place, languages: ['python', 'bash'], program_nice: 7 };
      await using sandbox = await createSandbox({ python, config });
      const ordinary = await sandbox.run('import os\nprint(os.nice(0))');
      const shell = await sandbox.run('nice', { language: 'bash' });
      await sandbox.run('', open);
      const nice = 'cut -d " " -f 19 /proc/$PPID/stat; nice; python3 -c "import os; print(os.nice(0))"';
      const [warden, own, child] = (await bash(sandbox, nice)).stdout.split('\n').map(Number);
      expect([Number(own) - Number(warden), child]).toEqual([7, own]);
      expect([ordinary.stdout, shell.stdout]).toEqual([`${own}\n`, `${own}\n`]);
    });

    test(`ends itself at its time with all that runs, though no agent says so, and not before (${place})`, async () => {
      await using sandbox = await createSandbox({ python, config: { place, languages: ['python', 'bash'] } });
      const beganMs = performance.now();
      await sandbox.run('', { language: 'bash', session: { do: 'open', ttl_seconds: 2 } });
      const left = bash(sandbox, 'trap "" TERM HUP INT; (setsid sleep 600 &); sleep 600').catch(
        () => 'lost with its sandbox',
      );
      await sandbox.exited;
      expect(performance.now() - beganMs).toBeGreaterThanOrEqual(2_000);
      expect(await left).toBe('lost with its sandbox');
      expect(sandbox.processes()).toEqual([]);
    });

    test(`ends a command at its time, and nothing else (${place})`, async () => {
      await using sandbox = await kept();
      const other = bash(sandbox, 'sleep 1; echo alive');
      const ran = await bash(
        sandbox,
        'trap "" TERM INT; (setsid sleep 100 &) ; echo x; while :; do sleep 1; done',
        {
          timeoutMs: 300,
        },
      );
      expect(ran.result).toMatchObject({ outcome: 'timed_out', exit_code: null, timed_out: true });
      expect((await other).stdout).toBe('alive\n');
    });
  }
});
