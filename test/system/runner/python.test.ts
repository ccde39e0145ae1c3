import { expect, test } from 'vitest';
import { describeSandbox, expectNext, expectUnharmed, py } from './suite.ts';

describeSandbox('Python code', (sandbox) => {
  test.each([
    ['1 + 1', '2\n'],
    ['x = 5\nx', '5\n'],
    ['x = 5', ''],
    ['None', ''],
    ['"text"', "'text'\n"],
    ['"""\nonly a docstring\n"""', "'\\nonly a docstring\\n'\n"],
    ['1; 2', '2\n'],
    ['1\n2\n3', '3\n'],
    ['print(1)', '1\n'],
    ['if True:\n    5', ''],
    ['for x in range(2): x', ''],
    ['def f(): return 1\nf()', '1\n'],
    ['7 # comment\n\n# more\n', '7\n'],
    ['(\n  1,\n  2,\n)', '(1, 2)\n'],
    ['import sys; sys.stdout', null],
    ['x = 1\n"\\ud800"', "'\\ud800'\n"],
    ['"é€😀"', "'é€😀'\n"],
    ['lambda: 0', null],
    ['print("a", end="")\n"b"', "a'b'\n"],
    ['x = [1]\nx.append(2)\nx', '[1, 2]\n'],
    ['y = (z := 3)\n(z)', '3\n'],
    ['5 if True else 6', '5\n'],
    ['async def f(): return 1\nimport asyncio\nasyncio.run(f())', '1\n'],
  ])('shows its last expression: %j', async (code, stdout) => {
    const ran = await sandbox().run(code);
    expect(ran.stderr).toBe('');
    if (stdout === null) expect(ran.stdout).toMatch(/^<.*>\n$/);
    else expect(ran.stdout).toBe(stdout);
    expect(ran.result.exit_code).toBe(0);
  });

  test('shows nothing of its last expression when not asked to', async () => {
    const ran = await sandbox().run('print(1)\n2', { lastLine: false });
    expect(ran.stdout).toBe('1\n');
  });

  test('whose last expression fails shows that line and no frame of ours', async () => {
    const ran = await sandbox().run('def f():\n    return 1 / 0\n\nf()');
    expect(ran.result.exit_code).toBe(1);
    expect(ran.stderr).toContain('Traceback (most recent call last):');
    expect(ran.stderr.match(/File "/g)).toHaveLength(2);
    expect(ran.stderr).toMatch(/__main__\.py", line 4, in <module>\n\s+f\(\)/);
    expect(ran.stderr).toMatch(/__main__\.py", line 2, in f\n\s+return 1 \/ 0/);
    expect(ran.stderr.trimEnd()).toMatch(/ZeroDivisionError: division by zero$/);
    expect(ran.stderr).not.toContain('podgate');
  });

  test('whose repr fails shows a traceback without a frame of ours', async () => {
    const ran = await sandbox().run('class A:\n    def __repr__(self): raise KeyError(1)\nA()');
    expect(ran.result.exit_code).toBe(1);
    expect(ran.stderr).toContain('KeyError: 1');
    expect(ran.stderr).not.toContain('podgate');
  });

  test.each([
    ['statements', 'raise OSError("x")\nprint(1)'],
    ['a chain', 'try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError(2) from e'],
    ['a thread', 'import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()'],
    ['a hook at exit', 'import atexit\natexit.register(lambda: 1 / 0)\nNone'],
    ['recursion', 'def f(): f()\nf()'],
    ['syntax', 'x = 1\nif x:\nprint(1)'],
    ['a traceback printed by hand', 'import traceback\ntry: 1 / 0\nexcept Exception: traceback.print_exc()'],
    ['a warning', 'import warnings\nwarnings.warn("careful")'],
  ])('that fails in %s shows its source and nothing of ours', async (_name, code) => {
    const ran = await sandbox().run(code);
    expect(ran.stderr).toContain('__main__.py');
    expect(ran.stderr).not.toMatch(/podgate|zygote|<string>|<frozen runpy/);
    await expectNext(sandbox());
  });

  test('that fails in text which it evaluates shows no line of anything there', async () => {
    const ran = await sandbox().run('exec("def f():\\n    1 / 0\\nf()")');
    expect(ran.stderr).toMatch(
      / {2}File "<string>", line 3, in <module>\n {2}File "<string>", line 2, in f\nZeroDivisionError: /,
    );
  });

  test('recurses as deep as the limit says, in its body, in hooks at exit and when objects are freed', async () => {
    const ran = await sandbox().run(py`
      import atexit, sys
      def deep(calls):
          try: return deep(calls + 1)
          except RecursionError: return calls
      class Freed:
          def __del__(self): print(deep(1) in (298, 299))
      print(deep(1), sys.getrecursionlimit())
      sys.setrecursionlimit(300)
      print(deep(1), sys.getrecursionlimit())
      atexit.register(lambda: print(deep(1)))
      freed = Freed()
      deep(1)
    `);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe('999 1000\n299 300\n299\n299\nTrue\n');
    await expectNext(sandbox());
  });

  test('ends in order whatever recursion limit it leaves', async () => {
    const ran = await sandbox().run(py`
      import atexit, sys
      class Freed:
          def __del__(self): print("freed")
      freed = Freed()
      atexit.register(print, "bye")
      left = open("left", "w")
      left.write("kept")
      sys.setrecursionlimit(4)
    `);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe('bye\nfreed\n');
    expect(ran.files.get('left')?.toString()).toBe('kept');
    await expectNext(sandbox());
  });

  test('sees no frame below its own: it is the outermost, as for python itself', async () => {
    const code = py`
      import atexit, inspect, signal, sys, traceback, warnings
      def names(frame):
          while frame is not None:
              yield frame.f_code.co_name
              frame = frame.f_back
      def deeper(): return list(names(sys._getframe()))
      print(list(names(sys._getframe())), deeper())
      print([each.function for each in inspect.stack()], [each.name for each in traceback.extract_stack()])
      traceback.print_stack(file=sys.stdout)
      try: sys._getframe(1)
      except ValueError as error: print(error)
      warnings.warn("beyond", stacklevel=2)
      @lambda f: atexit.register(f)
      def leaving(): print(list(names(sys._getframe())))
      def caught(number, frame): print(list(names(frame)), deeper())
      signal.signal(signal.SIGUSR1, caught)
      signal.raise_signal(signal.SIGUSR1)
      try: 1 / 0
      except ZeroDivisionError as error: print(list(names(error.__traceback__.tb_frame)))
      inspect.currentframe().f_back
      [*deeper()]
    `;
    const ran = await sandbox().run(code);
    expect(ran.stdout.split('\n')).toEqual([
      "['<module>'] ['deeper', '<module>']",
      "['<module>'] ['<module>']",
      '  File "/srv/__main__.py", line 9, in <module>',
      '    traceback.print_stack(file=sys.stdout)',
      'call stack is not deep enough',
      "['<module>'] ['deeper', 'caught', '<module>']",
      "['<module>']",
      "['deeper', '<module>']",
      "['leaving']",
      '',
    ]);
    expect(ran.stderr).toMatch(/^(sys:1|<sys>:0): UserWarning: beyond\n$/);
  });

  test('sees no frame of ours below the last expression’s, nor in what it raises, whatever it makes of traces', async () => {
    const ran = await sandbox().run(
      'import sys\ndef f(): raise SystemExit(sys._getframe().f_back.f_back is None)\nf()',
    );
    expect(ran.result.exit_code).toBe(1);
    const bare = await sandbox().run(
      'class E(Exception):\n    def with_traceback(self, trace): raise KeyError(2)\nraise E("bare")',
    );
    expect(bare.stderr).toMatch(
      /^Traceback.*\n {2}File "\/srv\/__main__.py", line 3, in <module>\n.*\n.*E: bare\n$/,
    );
  });

  test('gets a syntax error with line and caret', async () => {
    const ran = await sandbox().run('x = 1\ny = = 2');
    expect(ran.stderr).toMatch(/__main__\.py", line 2\n\s+y = = 2\n\s+\^/);
    expect(ran.stderr).toContain('SyntaxError');
    expect(ran.result.exit_code).toBe(1);
  });

  test('runs as __main__ with the names that Python gives, in its order, and no other', async () => {
    const ran = await sandbox().run(
      'print(*globals())\nprint(__name__, __file__, __package__)\nimport sys; print(sys.version_info >= (3, 14))',
    );
    const [names, main, isLazy] = ran.stdout.split('\n');
    const before = ['__name__', '__doc__', '__package__', '__loader__', '__spec__'];
    const annotations = isLazy === 'True' ? [] : ['__annotations__'];
    const given = [...before, ...annotations, '__builtins__', '__file__', '__cached__'];
    expect(names).toBe(given.join(' '));
    expect(main).toBe('__main__ /srv/__main__.py None');
  });

  test('finds itself as the module __main__', async () => {
    const ran = await sandbox().run(py`
      import sys, pickle, inspect
      class A: pass
      def f(): return 1
      print(sys.modules["__main__"].A is A, pickle.loads(pickle.dumps(A)) is A, inspect.getsource(f), end="")
    `);
    expect(ran.stdout).toBe('True True def f(): return 1\n');
  });

  test.each([2950, 3050])('may nest as deep as a file’s: a chain of %d elif', async (length) => {
    const chain = `if 0: pass\n${'elif 0: pass\n'.repeat(length)}end = None`;
    const asFile = await sandbox().run(py`
      import subprocess, sys
      with open("chain.py", "w") as file: file.write(${JSON.stringify(chain)})
      print(subprocess.run([sys.executable, "chain.py"], stderr=subprocess.STDOUT).returncode)
    `);
    const ran = await sandbox().run(chain);
    expect(`${ran.stderr}${ran.result.exit_code}\n`).toBe(asFile.stdout);
  });

  test.each([
    ['is another object', 'sys.modules[__name__] = object()'],
    ['is nowhere', 'del sys.modules[__name__]'],
    ['is another module', 'sys.modules[__name__] = sys'],
  ])('goes on to its last expression where its module %s', async (_name, statement) => {
    const ran = await sandbox().run(`import sys\n${statement}\nvalue = 7\nvalue`);
    expect(ran).toMatchObject({ stdout: '7\n', stderr: '', result: { exit_code: 0 } });
  });

  test('may name its variables as it likes', async () => {
    const ran = await sandbox().run(py`
      tree = 1; ast = 2; sys = 3; code = 4; exec = 5; compile = 6; os = 7; io = 8; builtins = 9; result = 10; json = 11
      repr = print = None
      tree + ast + sys
    `);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe('6\n');
  });

  test('honours imports from __future__', async () => {
    const ran = await sandbox().run(py`
      """A docstring first."""
      from __future__ import annotations
      def f(x: no_such_name) -> also_none: pass
      f.__annotations__["x"]
    `);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe("'no_such_name'\n");
  });

  test("does not inherit the runner's own __future__", async () => {
    const ran = await sandbox().run('def f(x: int): pass\nprint(f.__annotations__["x"] is int)');
    expect(ran.stdout).toBe('True\n');
  });

  test('is read as bytes: a byte-order mark, CRLF and a declared encoding', async () => {
    expect((await sandbox().run('\ufeffprint("bom")\r\nprint("crlf")\r\n')).stdout).toBe('bom\ncrlf\n');
    const latin = Buffer.concat([
      Buffer.from('# -*- coding: latin-1 -*-\nprint("'),
      Buffer.from([0xe9]),
      Buffer.from('")'),
    ]);
    expect((await sandbox().run(latin)).stdout).toBe('é\n');
  });

  test.each([
    ['NUL', Buffer.from('print(1)\0')],
    ['invalid UTF-8', Buffer.from([0x70, 0xff, 0xfe])],
    ['10,000 parentheses', '('.repeat(10_000) + ')'.repeat(10_000)],
    ['100,000 minus signs', `${'-'.repeat(100_000)}1`],
    ['a deep attribute chain', `x${'.a'.repeat(50_000)}`],
    ['a huge number', '9'.repeat(100_000)],
  ])('that is %s fails like a program and not like a runner', async (_name, code) => {
    const ran = await sandbox().run(code);
    expect(ran.result.exit_code).not.toBe(0);
    await expectNext(sandbox());
  });

  test('of 200 KB and of 2 MB runs', async () => {
    for (const size of [200_000, 2_000_000]) {
      const ran = await sandbox().run(`x = "${'y'.repeat(size)}"\nlen(x)`);
      expect(ran.stdout).toBe(`${size}\n`);
    }
  });

  test('may start processes, pools and interpreters', async () => {
    const ran = await sandbox().run(py`
      import multiprocessing, subprocess, sys
      def square(x): return x * x
      if __name__ == "__main__":
          with multiprocessing.Pool(2) as pool: print(pool.map(square, range(4)))
          with multiprocessing.get_context("spawn").Pool(1) as pool: print(pool.map(square, range(3)))
          print(subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, text=True).stdout, end="")
    `);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe('[0, 1, 4, 9]\n[0, 1, 4]\n1\n');
  });

  test('looks like a fresh interpreter', async () => {
    const ran = await sandbox().run(py`
      import os, signal, sys, threading, gc
      print(threading.active_count(), gc.isenabled(), signal.pthread_sigmask(signal.SIG_BLOCK, []))
      print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
      print(signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL, signal.getsignal(signal.SIGXCPU) == signal.SIG_DFL)
      print([name for name in sys.modules if "podgate" in name], sys.flags.optimize)
      print(sys.stdin.encoding, sys.stdout.encoding, sys.getrecursionlimit(), os.path.exists(sys.executable))
      print(any("podgate" in repr(finder).lower() for finder in sys.meta_path), sys.gettrace(), sys.excepthook is sys.__excepthook__)
    `);
    expect(ran.stderr).toBe('');
    expect(ran.stdout.split('\n')).toEqual([
      '1 True set()',
      'True True',
      'True True',
      '[] 0',
      'utf-8 utf-8 1000 True',
      'False None True',
      '',
    ]);
  });

  test('cannot import the runner', async () => {
    const ran = await sandbox().run('import podgate_runner.main');
    expect(ran.stderr).toContain("No module named 'podgate_runner'");
  });

  test('imports what lies beside it before anything else', async () => {
    const ran = await sandbox().run('import helper, sys\nprint(helper.VALUE, sys.path[0], sys.argv)', {
      files: { 'helper.py': 'VALUE = 42' },
      args: ['a', 'b c', ''],
    });
    expect(ran.stdout).toBe("42 /srv ['/srv/__main__.py', 'a', 'b c', '']\n");
  });

  test('imports what lies beside it in place of what only the runner wanted, and ends with it', async () => {
    const own = py`
      VALUE = 42
      file = open(__name__ + ".txt", "w")
      file.write("kept")
      def hold(): return file
      class Freed:
          def __del__(self): print(__name__, "is freed")
      freed = Freed()
    `;
    for (const name of ['ctypes', 'enum', 'resource', 'signal', 'struct']) {
      const ran = await sandbox().run(`import ${name}\nprint(${name}.VALUE)`, {
        files: { [`${name}.py`]: own },
      });
      expect([ran.stdout, ran.stderr]).toEqual([`42\n${name} is freed\n`, '']);
      expect(ran.files.get(`${name}.txt`)?.toString()).toBe('kept');
      await expectUnharmed(sandbox());
    }
    const packaged = await sandbox().run(
      'import signal.own, ctypes\nprint(signal.own.VALUE, ctypes.c_int(1).value)',
      {
        files: {
          'signal/__init__.py': '',
          'signal/own.py': 'VALUE = 42',
          'ctypes.txt': '',
          'struct.csv': '',
        },
      },
    );
    expect([packaged.stdout, packaged.stderr]).toEqual(['42 1\n', '']);
    await expectUnharmed(sandbox());
  });

  test('starts from fresh randomness', async () => {
    const code = py`
      import random, uuid, os, tempfile
      print(random.random(), random.getrandbits(64), uuid.uuid4(), os.urandom(8).hex(), tempfile.mktemp())
    `;
    const [first, second] = [await sandbox().run(code), await sandbox().run(code)];
    const values = [...first.stdout.split(' '), ...second.stdout.split(' ')];
    expect(new Set(values).size).toBe(10);
  });

  test.each([
    ['one that it imported', ''],
    ['one, after it removed one of the interpreter’s', 'sys.modules.pop("stat")'],
    ['one, after it put one of the interpreter’s last', 'sys.modules["stat"] = sys.modules.pop("stat")'],
  ])('clears modules at its end: %s', async (_name, before) => {
    const ran = await sandbox().run(
      py`
        import sys
        ${before}
        import helper
        None
      `,
      {
        files: {
          'helper.py':
            'import os\nclass End:\n    def __del__(self, write=os.write): write(1, b"cleared")\nend = End()\n',
        },
      },
    );
    expect(ran.stdout).toBe('cleared');
  });

  test('leaves nothing of itself in the next interpreter', async () => {
    await sandbox().run(py`
      import builtins, json, math, os, sys
      builtins.leak = json.leak = math.pi = 1
      os.environ["LEAK"] = "1"
      os.chdir("/")
      os.umask(0)
      sys.path.append("/leak")
      sys.setrecursionlimit(50)
      os.nice(5)
      import resource
      resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
    `);
    const ran = await sandbox().run(py`
      import builtins, json, math, os, sys, resource
      print(hasattr(builtins, "leak"), hasattr(json, "leak"), math.pi > 3, "LEAK" in os.environ, os.getcwd())
      print(os.umask(18), "/leak" in sys.path, sys.getrecursionlimit(), os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE))
    `);
    expect(ran.stdout).toBe('False False True False /srv\n18 False 1000 0 (256, 256)\n');
  });
});
