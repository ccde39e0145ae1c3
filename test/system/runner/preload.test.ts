import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import { describePython, expectUnharmed, NR, py } from './suite.ts';

/** A sandbox that preloads a module of this text, named `held`. */
async function sandboxWith(python: string, text: string, place = 'shared'): Promise<Sandbox> {
  const folder = mkdtempSync('/var/tmp/podgate-preload-');
  chmodSync(folder, 0o755);
  writeFileSync(`${folder}/held.py`, text);
  try {
    return await createSandbox({
      python,
      config: { preload: ['held'], place },
      env: { PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1' },
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describePython('preloading', (python) => {
  test('makes modules ready, and names those that fail', async () => {
    const preload = ['decimal', 'json.tool', 'no_such_module', 'this', 'sqlite3'];
    await using sandbox = await createSandbox({ python, config: { preload } });
    expect(sandbox.ready).toMatchObject({
      ok: true,
      epoch: 1,
      preloaded: ['decimal', 'json.tool', 'this', 'sqlite3'],
      preload_failed: [{ name: 'no_such_module', error: expect.stringContaining('no_such_module') }],
      missing: [],
      running: [],
    });
    const ran = await sandbox.run(
      'import sys\nprint([name in sys.modules for name in ("decimal", "json.tool", "sqlite3")])',
    );
    expect(ran.stdout).toBe('[True, True, True]\n');
    expect(ran.stderr).toBe('');
    await expectUnharmed(sandbox);
  });

  test('in a zygote that does not start is the trouble, and no filter, of which nobody knows', async () => {
    await using sandbox = await createSandbox({ python, env: { PYTHONHOME: '/nowhere' } });
    const { ok, missing } = sandbox.ready;
    expect(ok).toBe(false);
    expect(missing[0]).toBe('The zygote ended before it was ready.');
    expect(missing.join()).not.toContain('seccomp');
  });

  test('nothing preloads nothing that a program would notice', async () => {
    await using sandbox = await createSandbox({ python });
    const ran = await sandbox.run(py`
      import sys
      print([name for name in ("numpy", "pandas", "asyncio", "multiprocessing", "this") if name in sys.modules])
    `);
    expect(ran.stdout).toBe('[]\n');
  });

  test('of what shows tracebacks shows the line that failed, with its caret', async () => {
    await using sandbox = await createSandbox({ python, config: { preload: ['traceback'] } });
    const code = 'import sys, traceback\nsys.excepthook = traceback.print_exception\nx = "\u2028\x0c"\n1 / 0';
    const ran = await sandbox.run(code);
    expect(ran.stderr).toMatch(/line 4, in <module>\n {4}1 \/ 0\n(?: {4}~~\^~~\n)?ZeroDivisionError/);
  });

  test('of what shows tracebacks shows lines in the encoding that the program declares', async () => {
    await using sandbox = await createSandbox({ python, config: { preload: ['traceback'] } });
    const code = py`
      # coding: latin-1
      import traceback
      try: raise ValueError("é")
      except ValueError: traceback.print_exc()
    `;
    const ran = await sandbox.run(Buffer.from(code, 'latin1'));
    expect(ran.stderr).toContain('\n    try: raise ValueError("é")\n');
    expect(ran.stderr).toMatch(/\nValueError: é\n$/);
  });

  test('shares no state of numpy’s generators between programs', async (context) => {
    await using sandbox = await createSandbox({ python, config: { preload: ['numpy'] } });
    if (!sandbox.ready.preloaded.includes('numpy')) context.skip(`${python} has no numpy`);
    const code = 'import numpy\nprint(numpy.random.random(), numpy.random.default_rng().random())';
    const values = [await sandbox.run(code), await sandbox.run(code)].flatMap(({ stdout }) =>
      stdout.trim().split(' '),
    );
    expect(new Set(values).size).toBe(4);
  });

  test('of what leaves threads leaves nobody a way to the zygote by their numbers', async () => {
    await using sandbox = await sandboxWith(
      python,
      'import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()',
    );
    expect(sandbox.ready.missing).toEqual([expect.stringContaining('left 1 threads')]);
    const attempts = py`
      import ctypes, fcntl, os, resource
      libc = ctypes.CDLL(None, use_errno=True)
      zygote = os.getppid()
      left = [int(name) for name in os.listdir(f"/proc/{zygote}/task") if int(name) != zygote]
      done = []
      def attempt(what, action):
          try: value = action()
          except OSError: return
          if value != -1: done.append(what)
      for thread in left:
          attempt("limit", lambda: resource.prlimit(thread, resource.RLIMIT_NPROC, (0, 0)))
          attempt("affinity", lambda: os.sched_setaffinity(thread, {0}))
          attempt("nice", lambda: os.setpriority(os.PRIO_PROCESS, thread, 19))
          attempt("io", lambda: libc.syscall(NR["ioprio"], 1, thread, 3 << 13))
          attempt("owner", lambda: fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, thread))
          attempt("signal", lambda: os.kill(thread, 0))
          attempt("signal of a thread", lambda: libc.syscall(NR["tkill"], thread, 0))
          attempt("descriptor", lambda: libc.syscall(434, thread, 0o200))
      print(len(left), done)
    `;
    expect((await sandbox.run(`${NR}\n${attempts}`)).stdout).toBe('1 []\n');
    await expectUnharmed(sandbox);
  });

  test.each(['shared', 'fresh'])(
    'of what shares memory gives each program its own, in %s namespaces, which it shares with its children',
    async (place) => {
      const text = py`
        import mmap, multiprocessing, os
        lock, block = multiprocessing.Lock(), mmap.mmap(-1, 8192)
        block[:3] = b"own"
        file = os.memfd_create("file")
        os.ftruncate(file, 12288)
        whole, second = mmap.mmap(file, 12288), mmap.mmap(file, 4096, offset=4096)
        # The last page cannot be read any more.
        os.ftruncate(file, 8192)
      `;
      await using sandbox = await sandboxWith(python, text, place);
      expect(sandbox.ready).toMatchObject({ preloaded: ['held'], missing: [] });
      const code = py`
        import held, os
        print(held.lock.acquire(timeout=0.1), held.block[:3], held.second[:3])
        if os.fork() == 0:
            held.block[:3] = b"his"
            held.whole[4096:4099] = b"her"
            print(held.lock.acquire(timeout=0.1), flush=True)
            os._exit(0)
        os.wait()
        print(held.block[:3], held.second[:3])
      `;
      const own = "True b'own' b'\\x00\\x00\\x00'\nFalse\nb'his' b'her'\n";
      for (let n = 0; n < 2; n += 1) expect((await sandbox.run(code)).stdout).toBe(own);
    },
  );

  test('says what it measured of itself', async () => {
    await using sandbox = await createSandbox({ python });
    const { ready } = sandbox;
    expect(ready.version).toMatch(/^\d/);
    expect(ready.features.seccomp).toBe(true);
    expect(ready.base_memory_bytes).toBeGreaterThan(1_000_000);
    expect(ready.base_memory_bytes).toBeLessThan(100_000_000);
    expect(ready.languages).toHaveProperty('python');
    expect(sandbox.log()).toBe('');
  });
});
