import { expect, test } from 'vitest';
import { describeSandbox, expectNext, expectUnharmed, MIB, py } from './suite.ts';

describeSandbox('an outcome', (sandbox) => {
  test('is exited with 0 for a program that ends', async () => {
    const ran = await sandbox().run('print(1)');
    expect(ran.stdout).toBe('1\n');
    expect(ran.started).toBe(true);
    expect(ran.exit).toMatchObject({
      failure: null,
      result: {
        outcome: 'exited',
        exit_code: 0,
        signal: null,
        timed_out: false,
        stdout_bytes: 2,
        stderr_bytes: 0,
        stdout_truncated: false,
        stderr_truncated: false,
        files_omitted: [],
        files_omitted_count: 0,
      },
    });
  });

  test.each([
    ['import sys; sys.exit(3)', 3],
    ['raise SystemExit(7)', 7],
    ['import sys; sys.exit()', 0],
    ['import sys; sys.exit(None)', 0],
    ['import sys; sys.exit(True)', 1],
    ['import sys; sys.exit(256 + 5)', 5],
    ['import sys; sys.exit(-1)', 255],
    ['exit(4)', 4],
    ['quit(5)', 5],
    ['import os; os._exit(9)', 9],
    ['raise ValueError("x")', 1],
    ['1 +', 1],
    ['', 0],
    ['# nothing', 0],
  ])('of %j is exited with %i', async (code, exitCode) => {
    const { result } = await sandbox().run(code);
    expect(result).toMatchObject({ outcome: 'exited', exit_code: exitCode, signal: null });
  });

  test('of sys.exit with a sentence prints it and is 1', async () => {
    const ran = await sandbox().run('import sys; sys.exit("no more")');
    expect(ran.stderr).toBe('no more\n');
    expect(ran.result.exit_code).toBe(1);
  });

  test.each([
    [
      'a number that converts to nothing',
      'class Odd(int): __int__ = __ge__ = None\nraise SystemExit(Odd(5))',
      5,
      '',
    ],
    ['words that cannot be had', 'class Odd: __str__ = None\nraise SystemExit(Odd())', 1, '\n'],
    ['no code', 'class Odd(SystemExit): code = property(odd)\nraise Odd("words")', 1, 'words\n'],
    [
      'a trace of its own',
      'class Odd(Exception): __traceback__ = property(odd)\nraise Odd("x")',
      1,
      'Odd: x\n',
    ],
    ['another class’s face', 'class Odd(Exception): __class__ = SystemExit\nraise Odd("x")', 1, 'Odd: x\n'],
    ['no face', 'class Odd(Exception): __class__ = property(odd)\nraise Odd("x")', 1, 'Odd: x\n'],
    [
      'a hook that fails so',
      'class Odd(Exception): with_traceback = None\ndef hook(*_): raise Odd("x")\nsys.excepthook = hook\n1 / 0',
      1,
      'ZeroDivisionError: division by zero\n',
    ],
    [
      'no hook at all',
      'del sys.excepthook, sys.__excepthook__\n1 / 0',
      1,
      'ZeroDivisionError: division by zero\n',
    ],
    [
      'an interrupt that it blocks',
      'signal.pthread_sigmask(0, {2})\nraise KeyboardInterrupt',
      130,
      'KeyboardInterrupt\n',
    ],
  ])(
    'of an end with %s is that of the interpreter, which ends as always',
    async (_name, code, exitCode, said) => {
      const ran = await sandbox().run(
        `import atexit, signal, sys\natexit.register(print, "at exit")\ndef odd(_): raise OSError("odd")\n${code}`,
      );
      expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: exitCode, signal: null });
      expect([ran.stdout, ran.stderr.slice(-said.length || ran.stderr.length)]).toEqual(['at exit\n', said]);
      expect(ran.stderr).not.toContain('podgate');
    },
  );

  test.each([
    ['os.kill(os.getpid(), 9)', 9, 137],
    ['os.kill(os.getpid(), 15)', 15, 143],
    ['os.abort()', 6, 134],
    ['__import__("ctypes").string_at(0)', 11, 139],
    ['raise KeyboardInterrupt', 2, 130],
    ['os.kill(os.getpid(), signal.SIGRTMAX)', 64, 192],
  ])('of %s is signaled with %i', async (code, signal, exitCode) => {
    const { result } = await sandbox().run(`import os, signal\n${code}`);
    expect(result).toMatchObject({ outcome: 'signaled', signal, exit_code: exitCode, timed_out: false });
  });

  test('of exec is that of the new program', async () => {
    const ran = await sandbox().run('import os; os.execv("/bin/sh", ["sh", "-c", "echo from sh; exit 6"])');
    expect(ran.stdout).toBe('from sh\n');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 6 });
  });

  test('is timed_out without an exit code when the time is up', async () => {
    const ran = await sandbox().run('print("before")\nimport time; time.sleep(60)', { timeoutMs: 700 });
    expect(ran.stdout).toBe('before\n');
    expect(ran.result).toMatchObject({ outcome: 'timed_out', timed_out: true, exit_code: null });
    expect(ran.result.duration_ms).toBeGreaterThanOrEqual(700);
    expect(ran.result.duration_ms).toBeLessThan(3_000);
    await expectNext(sandbox());
  });

  test('is timed_out for a program that ignores every signal it can', async () => {
    const { result } = await sandbox().run(
      py`
        import signal, time
        for number in signal.valid_signals():
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: time.sleep(1)
      `,
      { timeoutMs: 500 },
    );
    expect(result.outcome).toBe('timed_out');
    await expectNext(sandbox());
  });

  test('is cpu_limit with 152 when the processor time is used up', async () => {
    const { result } = await sandbox().run('while True: pass', { cpuSeconds: 1 });
    expect(result).toMatchObject({ outcome: 'cpu_limit', exit_code: 152, signal: 24, timed_out: false });
    expect(result.cpu_ms).toBeGreaterThan(800);
    expect(result.cpu_ms).toBeLessThan(2_500);
  });

  test('is cpu_limit with 137 for a program that ignores SIGXCPU', async () => {
    const { result } = await sandbox().run(
      'import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass',
      { cpuSeconds: 1 },
    );
    expect(result).toMatchObject({ outcome: 'cpu_limit', exit_code: 137, signal: 9 });
  });

  test('is cpu_limit for a tree of processes that are each short', async () => {
    const { result } = await sandbox().run(
      py`
        import os, time
        while True:
            if os.fork() == 0:
                end = time.process_time() + 0.1
                while time.process_time() < end: pass
                os._exit(0)
            os.wait()
      `,
      { cpuSeconds: 1, timeoutMs: 15_000 },
    );
    expect(result.outcome).toBe('cpu_limit');
    expect([137, 152]).toContain(result.exit_code);
    await expectNext(sandbox());
  });

  test('is exited with 1 for a program that meets its MemoryError', async () => {
    const ran = await sandbox().run('x = bytearray(1 << 30)', { memoryBytes: 128 * MIB });
    expect(ran.stderr).toContain('MemoryError');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 1 });
  });

  test('is what a program makes of it that survives its MemoryError', async () => {
    const ran = await sandbox().run(
      py`
        try: x = bytearray(1 << 30)
        except MemoryError: print("caught")
      `,
      { memoryBytes: 128 * MIB },
    );
    expect(ran.stdout).toBe('caught\n');
    expect(ran.result.exit_code).toBe(0);
  });

  test('is memory_limit with 137 for shared memory past the limit', async () => {
    const { result } = await sandbox().run(
      py`
        import mmap, time
        area = mmap.mmap(-1, 300 << 20)
        for at in range(0, len(area), 4096): area[at] = 1
        time.sleep(60)
      `,
      { memoryBytes: 128 * MIB },
    );
    expect(result).toMatchObject({ outcome: 'memory_limit', exit_code: 137 });
    await expectNext(sandbox());
  });

  test('is no memory_limit for a large program that starts many small ones', async () => {
    const { result } = await sandbox().run(
      py`
        import subprocess
        area = bytearray(b"x") * (90 << 20)
        for _ in range(300):
            subprocess.run(["/bin/true"])
      `,
      { memoryBytes: 128 * MIB, timeoutMs: 60_000 },
    );
    expect(result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    expect(result.peak_memory_bytes).toBeLessThan(256 * MIB);
  });

  test.each([
    ['of the main thread', 'spawn()'],
    ['of another thread', 'thread = threading.Thread(target=spawn); thread.start(); thread.join()'],
  ])(
    'is no memory_limit for a large program while a child %s has not executed yet',
    async (_name, spawns) => {
      const { result } = await sandbox().run(
        py`
        import os, tempfile, threading
        area = bytearray(b"x") * (90 << 20)
        pipe = tempfile.mkdtemp() + "/pipe"
        os.mkfifo(pipe)
        # The child opens it before it executes, and finds nobody who writes.
        actions = [(os.POSIX_SPAWN_OPEN, 0, pipe, os.O_RDONLY, 0)]
        os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 1; : > " + pipe], os.environ)
        def spawn():
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=actions), 0)
        ${spawns}
      `,
        { memoryBytes: 128 * MIB, timeoutMs: 60_000 },
      );
      expect(result).toMatchObject({ outcome: 'exited', exit_code: 0 });
      expect(result.peak_memory_bytes).toBeLessThan(128 * MIB);
    },
  );

  test('is memory_limit for a tree of processes that are each small', async () => {
    const { result } = await sandbox().run(
      py`
        import os, time
        for _ in range(6):
            if os.fork() == 0:
                area = bytearray(b"x") * (60 << 20)
                time.sleep(60)
                os._exit(0)
        time.sleep(60)
      `,
      { memoryBytes: 128 * MIB },
    );
    expect(result).toMatchObject({ outcome: 'memory_limit', exit_code: 137 });
    await expectNext(sandbox());
  });

  test('is cancelled when the caller goes away', async () => {
    const ran = await sandbox().run('print("up")\nimport time; time.sleep(60)', {
      onData: (execution, { stdout }) => {
        if (stdout === 'up\n') execution.cancel('caller_left');
      },
    });
    expect(ran.stdout).toBe('up\n');
    expect(ran.result).toMatchObject({ outcome: 'cancelled', exit_code: null, timed_out: false });
    await expectNext(sandbox());
  });

  test('is a failure that says nothing started when it is cancelled before', async () => {
    const ran = await sandbox().run('print(1)', {
      onExecution: (execution) => execution.cancel('caller_left'),
    });
    expect(ran.started).toBe(false);
    expect(ran.exit).toMatchObject({ result: null, failure: { code: 'cancelled', started: 'no' } });
    await expectNext(sandbox());
  });

  test('is output_limit for a program that prints more than the hard cap', async () => {
    const { result } = await sandbox().run('while True: print("x" * 1000)', {
      maxOutputBytes: 1_000,
      outputLimitBytes: 200_000,
    });
    expect(result).toMatchObject({ outcome: 'output_limit', exit_code: 137, stdout_truncated: true });
    expect(result.stdout_bytes).toBeGreaterThan(200_000);
    await expectNext(sandbox());
  });

  test('counts both streams against the hard cap', async () => {
    const code = 'import sys, time\nsys.stdout.write("x" * 600)\nsys.stderr.write("x" * 600)\ntime.sleep(60)';
    const { result } = await sandbox().run(code, { outputLimitBytes: 1_000 });
    expect(result.outcome).toBe('output_limit');
  });

  test('is exited at the hard cap itself', async () => {
    const { result } = await sandbox().run('import sys; sys.stdout.write("x" * 1000)\nNone', {
      outputLimitBytes: 1_000,
    });
    expect(result).toMatchObject({ outcome: 'exited', exit_code: 0, stdout_bytes: 1_000 });
  });

  test("counts the program's own time and memory", async () => {
    const { result } = await sandbox().run(
      py`
        import time
        block = bytearray(b"x") * (80 << 20)
        end = time.process_time() + 0.3
        while time.process_time() < end: pass
        time.sleep(0.2)
      `,
    );
    expect(result.duration_ms).toBeGreaterThanOrEqual(500);
    expect(result.duration_ms).toBeLessThan(5_000);
    expect(result.cpu_ms).toBeGreaterThanOrEqual(250);
    expect(result.peak_memory_bytes).toBeGreaterThan(80 * MIB);
    const next = await sandbox().run('1');
    expect(next.result.peak_memory_bytes).toBeLessThan(60 * MIB);
    expect(next.result.cpu_ms).toBeLessThan(200);
    // Also what it used since anybody looked.
    const short = await sandbox().run('import time\nwhile time.process_time() < 0.1: pass');
    expect(short.result.cpu_ms).toBeGreaterThanOrEqual(100);
  });

  test('waits for threads that are alive at exit', async () => {
    const ran = await sandbox().run(py`
      import threading, time
      def late():
          time.sleep(0.2)
          print("late")
      threading.Thread(target=late).start()
      print("main")
    `);
    expect(ran.stdout).toBe('main\nlate\n');
    expect(ran.result.exit_code).toBe(0);
  });

  test('does not wait for daemon threads', async () => {
    const ran = await sandbox().run(
      py`
      import threading, time
      threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
      import atexit
      atexit.register(print, "at exit")
    `,
      { lastLine: false },
    );
    expect(ran.stdout).toBe('at exit\n');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
  });

  test('does not wait for children that the program leaves', async () => {
    const ran = await sandbox().run(py`
      import subprocess
      subprocess.Popen(["sleep", "60"])
      print("done")
    `);
    expect(ran.stdout).toBe('done\n');
    expect(ran.result.exit_code).toBe(0);
    expect(ran.result.duration_ms).toBeLessThan(5_000);
    await expectUnharmed(sandbox());
  });
});
