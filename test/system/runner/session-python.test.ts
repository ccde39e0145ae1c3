import { expect, test } from 'vitest';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { describePython, py } from './suite.ts';

describePython('Python that remembers', (python) => {
  type Run = (code: string, options?: RunOptions) => ReturnType<Sandbox['run']>;
  async function kept(): Promise<{ sandbox: Sandbox; run: Run }> {
    const sandbox = await createSandbox({ python, config: { languages: ['python', 'bash'] } });
    await sandbox.run('', { language: 'bash', session: { do: 'open', ttl_seconds: 600 } });
    const session = { do: 'python', context: 'main', rich: false } as const;
    const run: Run = (code, options) => sandbox.run(code, { session, timeoutMs: 20_000, ...options });
    return { sandbox, run };
  }

  test('shows the line that failed, with its caret, whatever stands in the lines before', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    const failed = await run('x = "a\u2028b"\n"""\x0b\x0c\x1c\x85"""\r\n1 / 0');
    expect(failed.stderr).toMatch(/line 3, in <module>\n {4}1 \/ 0\n(?: {4}~~\^~~\n)?ZeroDivisionError/);
  });

  test('shows the line of an error that the compiler finds behind the parser', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    for (const [code, shown] of [
      ['def f():\n    x = 1\n    global x', 'line 3\n    global x\n'],
      ['x = 1\nreturn x', 'line 2\n    return x\n'],
    ] as const)
      expect((await run(code)).stderr).toContain(shown);
  });

  test('tells what to write in place of IPython’s own syntax', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    for (const code of ['!ls', '%%time\n1', 'names = !ls']) {
      const { stderr } = await run(code);
      expect(stderr).toContain('\nSyntaxError: invalid syntax (what begins with ! or % is IPython');
    }
    expect((await run('"%s" % % 3')).stderr).toMatch(/SyntaxError: invalid syntax\n$/);
  });

  test('keeps for later pieces what one imports from __future__, and no other interpreter has it', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    const annotated = 'def f(x: unknown): pass\nf.__annotations__';
    expect((await run(annotated)).stderr).toContain("NameError: name 'unknown' is not defined");
    await run('from __future__ import annotations\n1 / 0');
    expect((await run(annotated)).stdout).toBe("{'x': 'unknown'}\n");
    const other = { do: 'python', context: 'other', rich: false } as const;
    expect((await sandbox.run(annotated, { session: other })).result.exit_code).toBe(1);
  });

  test('recurses as deep as the limit says', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    await run(py`
      import sys
      def deep(calls):
          try: return deep(calls + 1)
          except RecursionError: return calls
    `);
    expect((await run('deep(1), sys.getrecursionlimit()')).stdout).toBe('(999, 1000)\n');
    await run('sys.setrecursionlimit(300)');
    expect((await run('deep(1), sys.getrecursionlimit()')).stdout).toBe('(299, 300)\n');
  });

  test('is told to have run out of time where the interrupt ends its interpreter', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    const code = 'import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\ntime.sleep(100)';
    const { result } = await run(code, { timeoutMs: 500 });
    expect(result).toMatchObject({ outcome: 'timed_out', exit_code: null, signal: 2, context: 'lost' });
  });

  test('ends as the program that it becomes by exec does, within the time of its piece', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    const become = (shell: string) => `import os\nprint("before")\nos.execvp("sh", ["sh", "-c", "${shell}"])`;
    const ended = await run(become('for n in 1 2 3 4 5 6 7 8 9; do sh -c :; done; echo after; exit 3'));
    expect(ended.stdout).toBe('before\nafter\n');
    expect(ended.result).toMatchObject({ outcome: 'exited', exit_code: 3, context: 'lost' });
    const late = await run(become('echo after; exec sleep 100'), { timeoutMs: 500 });
    expect(late.stdout).toBe('before\nafter\n');
    expect(late.result).toMatchObject({ outcome: 'timed_out', context: 'lost' });
    expect((await run('6 * 7')).stdout).toBe('42\n');
  });

  test('remembers also where a piece of code left no descriptor free', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    const leak = py`
      import os
      x, held = 1, []
      try:
          while True: held.append(os.open("/dev/null", os.O_RDONLY))
      except OSError as error: print(error.strerror)
    `;
    expect((await run(leak)).stdout).toBe('Too many open files\n');
    for (let n = 0; n < 2; n += 1) {
      const { stdout, result } = await run('x + 1');
      expect([stdout, result]).toEqual(['2\n', expect.objectContaining({ exit_code: 0, context: 'kept' })]);
    }
    // Numbers that it keeps may be the program's: it has 256.
    await run('for fd in held: os.close(fd)');
    await run('null = os.open("/dev/null", os.O_RDONLY)\nfor fd in range(251, 256): os.dup2(null, fd)');
    const links = '{os.readlink("/proc/self/fd/%d" % fd) for fd in range(251, 256)}';
    expect((await run(links)).stdout).toBe("{'/dev/null'}\n");
  });

  test('prints what it is to display where nobody wants results', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    const shown = await run('display(1, "two")');
    expect([shown.stdout, shown.stderr]).toEqual(["1\n'two'\n", '']);
    expect((await run('display(3)')).stdout).toBe('3\n');
    const failed = await run(py`
      class Broken:
          def __repr__(self): raise KeyError
      def f():
          display(Broken())
      f()
    `);
    expect(failed.stderr).toContain('line 4, in f\n    display(Broken())\n');
    expect(failed.stderr).toContain('line 2, in __repr__\n');
  });

  test('shows no value that a semicolon ends, where results are wanted', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    expect((await run('6 * 7;')).stdout).toBe('42\n');
    const rich = { do: 'python', context: 'main', rich: true } as const;
    const results = async (code: string) => {
      const ran = await sandbox.run(code, { session: rich, timeoutMs: 20_000 });
      return JSON.parse(ran.files.get('results')?.toString() ?? '{}').results;
    };
    expect(await results('import asyncio\nawait asyncio.sleep(0, 7);')).toEqual([]);
    expect(await results('await asyncio.sleep(0, 7)')).toMatchObject([{ data: { 'text/plain': '7' } }]);
    expect(await results('_;')).toEqual([]);
  });

  test('leaves running what it started, whatever that prints', async () => {
    const { sandbox, run } = await kept();
    await using _ = sandbox;
    const begun = await run(py`
      import os, subprocess, time
      os.mkfifo("go")
      talks = 'echo first; read x < go; echo more; echo more >&2; head -c 1000000 /dev/zero; : > told; exec sleep 100'
      left = subprocess.Popen(["sh", "-c", talks])
      written = os.write(1, b"begun\n")
    `);
    expect(begun.stdout.split('\n').sort()).toEqual(['', 'begun', 'first']);
    const asked = await run(py`
      with open("go", "w") as go: go.write("go\n")
      while left.poll() is None and not os.path.exists("told"): time.sleep(0.01)
      print(left.poll())
    `);
    expect(asked.stdout).toBe('None\n');
  }, 60_000);
});
