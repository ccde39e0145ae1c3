import { expect, test } from 'vitest';
import { describeSandbox, expectUnharmed, MIB, py } from './suite.ts';

describeSandbox('a program that takes all it can of', (sandbox) => {
  test('processes (fork bomb) is killed whole', async () => {
    const ran = await sandbox().run(
      py`
        import os
        while True:
            try: os.fork()
            except OSError: pass
      `,
      { timeoutMs: 1_000 },
    );
    expect(['timed_out', 'cpu_limit', 'memory_limit']).toContain(ran.result.outcome);
    await expectUnharmed(sandbox());
  });

  test('processes (a bomb in bash) is killed whole', async () => {
    const ran = await sandbox().run('b() { b | b & }; b; sleep 60', { language: 'bash', timeoutMs: 1_000 });
    expect(['timed_out', 'cpu_limit', 'memory_limit', 'exited']).toContain(ran.result.outcome);
    await expectUnharmed(sandbox());
  });

  test('processes is held at the limit', async () => {
    const ran = await sandbox().run(py`
      import os, resource, time
      born, (limit, _) = 0, resource.getrlimit(resource.RLIMIT_NPROC)
      try:
          while born < 1000:
              if os.fork() == 0:
                  time.sleep(60)
                  os._exit(0)
              born += 1
      except OSError as error: print(type(error).__name__)
      print(born < limit < 150)
    `);
    expect(ran.stdout).toBe('BlockingIOError\nTrue\n');
    await expectUnharmed(sandbox());
  });

  test('threads is held at the limit', async () => {
    const ran = await sandbox().run(py`
      import threading, time
      try:
          for _ in range(1000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
      except RuntimeError as error: print(error)
    `);
    expect(ran.stdout).toBe("can't start new thread\n");
    await expectUnharmed(sandbox());
  });

  test('memory (heap) dies of its own MemoryError or at the limit', async () => {
    const ran = await sandbox().run('hoard = []\nwhile True: hoard.append(bytearray(b"x") * (1 << 20))', {
      memoryBytes: 128 * MIB,
    });
    expect(ran.result.outcome).toMatch(/^(exited|memory_limit)$/);
    expect(ran.result.exit_code).toBe(ran.result.outcome === 'exited' ? 1 : 137);
    expect(ran.result.peak_memory_bytes).toBeLessThan(200 * MIB);
    await expectUnharmed(sandbox());
  });

  test('memory (private mappings) dies of its own error or at the limit', async () => {
    const ran = await sandbox().run(
      py`
        import mmap
        hoard = []
        while True:
            area = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            area.write(b"x" * (16 << 20))
            hoard.append(area)
      `,
      { memoryBytes: 128 * MIB },
    );
    expect(ran.result.outcome).toMatch(/^(exited|memory_limit)$/);
    expect(ran.result.exit_code).not.toBe(0);
    await expectUnharmed(sandbox());
  });

  test('memory (shared mappings) dies at the limit', async () => {
    const ran = await sandbox().run(
      py`
        import mmap
        hoard = []
        while True:
            area = mmap.mmap(-1, 16 << 20)
            area.write(b"x" * (16 << 20))
            hoard.append(area)
      `,
      { memoryBytes: 128 * MIB },
    );
    expect(ran.result).toMatchObject({ outcome: 'memory_limit', exit_code: 137 });
    await expectUnharmed(sandbox());
  });

  test('memory (/dev/shm) ends at its size or at the limit, and the room is free again', async () => {
    const code = py`
      try:
          with open("/dev/shm/full", "wb", 0) as file:
              while True: file.write(b"x" * (1 << 20))
      except OSError as error: print(error.errno)
    `;
    for (let n = 0; n < 2; n += 1) {
      const ran = await sandbox().run(code);
      expect(ran.stdout).toMatch(/^(28|27)\n$/);
      await expectUnharmed(sandbox());
    }
  });

  test('memory (System V segments) leaves none behind', async () => {
    const ran = await sandbox().run(py`
      import ctypes
      libc = ctypes.CDLL(None, use_errno=True)
      print(sorted({libc.shmget(0, 1 << 20, 0o1666) >= 0 for _ in range(10)}))
      libc.semget(0, 10, 0o1666); libc.msgget(0, 0o1666)
      None
    `);
    expect(ran.result.outcome).toBe('exited');
    await expectUnharmed(sandbox());
  });

  test('descriptors gets an error at the limit', async () => {
    const ran = await sandbox().run(py`
      import os
      held = []
      try:
          while True: held.append(os.dup(1))
      except OSError as error: print(error.errno, len(held))
    `);
    expect(ran.stdout).toBe('24 253\n');
    await expectUnharmed(sandbox());
  });

  test('pipes and their buffers holds nobody up', async () => {
    const ran = await sandbox().run(py`
      import os, fcntl
      try:
          while True:
              read, write = os.pipe()
              os.set_blocking(write, False)
              try: os.write(write, b"x" * (1 << 20))
              except BlockingIOError: pass
      except OSError as error: print(error.errno)
    `);
    expect(ran.stdout).toBe('24\n');
    await expectUnharmed(sandbox());
  });

  test('the disk gets an error, and the room is free again', async () => {
    const code = py`
      try:
          for n in range(1000):
              with open(f"f{n}", "wb", 0) as file: file.write(b"x" * (10 << 20)) == 10 << 20 or file.write(b"y")
      except OSError as error: print(error.errno)
    `;
    for (let n = 0; n < 2; n += 1) {
      const ran = await sandbox().run(code, { collect: false });
      expect(ran.stdout).toBe('28\n');
      await expectUnharmed(sandbox());
    }
  });

  test('one file gets an error at its size', async () => {
    const ran = await sandbox().run(
      py`
        import os
        with open("big", "wb", 0) as file:
            try:
                while True: file.write(b"x" * (1 << 20))
            except OSError as error: print(error.errno, os.path.getsize("big"))
      `,
      { collect: false },
    );
    expect(ran.stdout).toBe(`27 ${64 * MIB}\n`);
    await expectUnharmed(sandbox());
  });

  test('processor time in many processes is stopped', async () => {
    const { result } = await sandbox().run('import os\nfor _ in range(4): os.fork()\nwhile True: pass', {
      cpuSeconds: 1,
      timeoutMs: 15_000,
    });
    expect(result.outcome).toBe('cpu_limit');
    await expectUnharmed(sandbox());
  });

  test('processor time in children of whose ends it hears nothing is stopped', async () => {
    const code = py`
      import os, signal, time
      signal.signal(signal.SIGCHLD, signal.SIG_IGN)
      while True:
          for _ in range(2):
              if os.fork() == 0:
                  while time.process_time() < 0.3: pass
                  os._exit(0)
          try: os.wait()
          except ChildProcessError: pass
    `;
    const { result } = await sandbox().run(code, { cpuSeconds: 1, timeoutMs: 15_000 });
    expect(result.outcome).toBe('cpu_limit');
    expect(result.cpu_ms).toBeGreaterThanOrEqual(1_000);
    await expectUnharmed(sandbox());
  });
});

describeSandbox(
  'a program that takes all inodes',
  (sandbox) => {
    test('gets an error, and all are free again', async () => {
      const code = py`
        try:
            for n in range(100_000): open(f"f{n}", "w").close()
        except OSError as error: print(error.errno)
      `;
      for (let n = 0; n < 2; n += 1) {
        const ran = await sandbox().run(code, { collect: false });
        expect(ran.stdout).toBe('28\n');
        await expectUnharmed(sandbox());
      }
    });

    test('leaves the next one room for its code, or says that there is none', async () => {
      await sandbox().run('for n in range(100_000): open(f"f{n}", "w").close()', { collect: false });
      const ran = await sandbox().run('print(1)', { files: { a: 'a', b: 'b' } });
      if (ran.exit.failure) expect(ran.exit.failure).toMatchObject({ code: 'stage_failed', started: 'no' });
      await expectUnharmed(sandbox());
    });
  },
  { workspaceMount: 'size=128m,nr_inodes=2000,mode=1777' },
);
