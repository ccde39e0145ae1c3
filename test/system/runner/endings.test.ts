import { expect, test } from 'vitest';
import { describeSandbox, expectNext, py } from './suite.ts';

describeSandbox('the end of a Python program', (sandbox) => {
  test.each([
    ['that its module holds', 'def other(): pass\nfile = open("kept", "w")\nfile.write("kept")'],
    ['of a writer', 'import csv\ndef other(): pass\ncsv.writer(open("kept", "w")).writerow(["kept"])'],
    [
      'that a global writer has',
      'import csv\nfile = open("kept", "w")\nwriter = csv.writer(file)\nclass Other: pass\nwriter.writerow(["kept"])',
    ],
    [
      'of an object',
      'class Log:\n    def __init__(self): self.file = open("kept", "w")\nlog = Log()\nlog.log = log\nlog.file.write("kept")',
    ],
    [
      'in the trace of its error',
      'def fail():\n    file = open("kept", "w")\n    file.write("kept")\n    def hold(): return file, hold\n    1 / 0\nfail()',
    ],
    [
      'of bytes',
      'import io\ndef other(): pass\nfile = io.BufferedWriter(io.FileIO("kept", "w"))\nfile.write(b"kept")',
    ],
    [
      'that its last value holds',
      'class Log:\n    def __init__(self):\n        self.file = open("kept", "w")\n        self.file.write("kept")\nLog()',
    ],
    [
      'beside a handler of signals',
      'import signal\nfile = open("kept", "w")\nfile.write("kept")\nsignal.signal(signal.SIGALRM, lambda *_: None)',
    ],
    [
      'that a hook holds',
      'import sys\nfile = open("kept", "w")\nfile.write("kept")\nsys.excepthook = lambda *_: file',
    ],
    [
      'that a function of the library holds',
      'import os\nfile = open("kept", "wb")\nfile.write(b"kept")\nos.getcwd = lambda: file',
    ],
  ])('writes what waits for a file %s and that nobody closed', async (_name, code) => {
    await sandbox().run(code);
    const ran = await sandbox().run('import os\nprint(open("kept").read().strip())\nos.remove("kept")');
    expect(ran.stdout).toBe('kept\n');
  });

  test('lets go of its objects in the interpreter’s order', async () => {
    const ran = await sandbox().run(py`
      class Thing:
          def __init__(self, name): self.name = name
          def __del__(self): print(self.name, end=" ")
      last = Thing("named")
      many = [Thing(number) for number in range(3)]
      some = {name: Thing(name) for name in "ab"}
      def held(thing=Thing("default")): return held
      after = Thing("after")
      None
    `);
    expect(ran.stdout).toBe('named after 2 1 0 a b default ');
  });

  test.each([
    ['stdout', 'raise OSError("full")', 'Exception ignored in: <__main__.Full object at'],
    ['stdout', 'raise SystemExit(3)', 'SystemExit: 3\n'],
    ['stderr', 'raise OSError("full")', ''],
  ])('that cannot flush a %s of its own by %s is 120', async (name, body, said) => {
    const ran = await sandbox().run(py`
      import sys
      class Full:
          def write(self, text): return len(text)
          def flush(self): ${body}
      sys.${name} = Full()
    `);
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 120 });
    expect(ran.stderr).toContain(said);
    expect(ran.stderr).not.toContain('podgate');
  });

  test('is 120 where its stdout has no flush at all', async () => {
    const ran = await sandbox().run(py`
      import sys
      class Tee:
          def write(self, text): return sys.__stdout__.write(text)
      sys.stdout = Tee()
      print(1)
    `);
    expect(ran.stdout).toBe('1\n');
    expect(ran.stderr).toMatch(
      /^Exception ignored in: <__main__\.Tee object at 0x\w+>\n(.*\n)*AttributeError: 'Tee' object has no attribute 'flush'\n$/,
    );
    expect(ran.result.exit_code).toBe(120);
  });

  test.each(['stdout', 'stderr'])('is its own where it has taken its %s apart', async (name) => {
    const ran = await sandbox().run(py`
      import io, sys
      sys.${name} = io.TextIOWrapper(sys.${name}.detach(), encoding="utf-8")
      print("é")
    `);
    expect(ran).toMatchObject({ stdout: 'é\n', stderr: '', result: { exit_code: 0 } });
  });

  test.each([
    ['an exit function', 'atexit.register(later)'],
    ['an exit function, after an error', 'atexit.register(later); 1 / 0'],
    ['a thread', 'threading.Thread(target=lambda: (main.join(), later())).start()'],
  ])('writes what waits for a file in place of its stdout before what %s writes', async (_name, code) => {
    const ran = await sandbox().run(py`
      import atexit, os, sys, threading
      main = threading.main_thread()
      def later(): os.write(1, b"later\n")
      sys.stdout = open(1, "w", closefd=False)
      print("first")
      ${code}
      end = None
    `);
    expect(ran.stdout).toBe('first\nlater\n');
  });

  test.each([
    ['is taken away after its text', 'end = None', 'hidden\n'],
    ['is taken away after an error, which its hook still sees it at', '1 / 0', 'shown\nhidden\n'],
    ['stays where it exits', 'sys.exit()', 'shown\n'],
  ])('knows its file: the name %s', async (_name, code, said) => {
    const ran = await sandbox().run(py`
      import atexit, sys
      def tell(*_): print("shown" if "__file__" in globals() and "__cached__" in globals() else "hidden")
      sys.excepthook = tell
      _ = atexit.register(tell)
      ${code}
    `);
    expect(ran.stdout).toBe(said);
  });

  test('with a sentence says it also where there is no sys.stderr', async () => {
    const ran = await sandbox().run('import sys\nsys.stderr = None\nsys.exit("no more")');
    expect(ran.stderr).toBe('no more\n');
    expect(ran.result.exit_code).toBe(1);
  });

  test.each([
    ['an exit', 'end(SystemExit)', { outcome: 'exited', exit_code: 3 }],
    ['an error', 'end(ValueError)', { outcome: 'exited', exit_code: 1 }],
    ['an interrupt', 'end(KeyboardInterrupt)', { outcome: 'signaled', exit_code: 130 }],
    [
      'its module, which the library has',
      'freed, left, os.kept = Freed(), never(), __main__',
      { outcome: 'exited', exit_code: 0 },
    ],
  ])(
    'shows what is freed with %s no frame of ours, and imports nothing to warn of it',
    async (_name, end, outcome) => {
      const ran = await sandbox().run(py`
      import os, sys, __main__
      class Freed:
          def __del__(self, frame=sys._getframe, print=print):
              at = frame()
              while at:
                  print(at.f_code.co_name)
                  at = at.f_back
      async def never(): pass
      def end(kind):
          freed, left = Freed(), never()
          raise kind(3)
      ${end}
    `);
      expect(ran.stdout).toBe('__del__\n');
      expect(ran.stderr).toMatch(/sys.*: RuntimeWarning: coroutine 'never' was never awaited\n/);
      expect(ran.stderr).not.toContain('podgate');
      expect(ran.result).toMatchObject(outcome);
    },
  );

  test('frees its modules one after the other: with each those that are to come are still found', async () => {
    const ran = await sandbox().run(py`
      import warnings
      warnings.simplefilter("always")
      open("first", "w")
      left = open("left", "w")
    `);
    expect(ran.stderr.match(/ResourceWarning: Enable tracemalloc/g)).toHaveLength(2);
  });

  test('frees what is no module and stands among them', async () => {
    const ran = await sandbox().run(py`
      import sys
      class Thing:
          def __del__(self): print("freed", sys.modules.get("__main__", "gone"))
      sys.modules["mine"] = sys.modules[__name__] = Thing()
    `);
    expect(ran).toMatchObject({ stdout: 'freed gone\n', result: { exit_code: 0 } });
  });

  test.each(['sys.modules = {}', 'sys.modules = None', 'del sys.modules'])(
    'is the same after %s',
    async (statement) => {
      const ran = await sandbox().run(py`
      import atexit, sys, threading
      class Thing:
          def __del__(self): print("freed")
      thing, main = Thing(), threading.main_thread()
      _ = atexit.register(print, "exit")
      threading.Thread(target=lambda: (main.join(), print("thread"))).start()
      ${statement}
    `);
      expect(ran).toMatchObject({ stdout: 'thread\nexit\nfreed\n', result: { exit_code: 0 } });
    },
  );

  test.each([
    ['an exit', 'raise SystemExit(3)', { outcome: 'exited', exit_code: 3 }],
    ['an interrupt', 'raise KeyboardInterrupt', { outcome: 'signaled', exit_code: 130 }],
  ])('by %s is its own, whatever it made of names that we use too', async (name, end, outcome) => {
    const ran = await sandbox().run(py`
      import builtins, os
      file = open("${name}", "w")
      file.write("kept")
      for name in "open type len isinstance issubclass getattr callable reversed range bool".split():
          setattr(builtins, name, None)
      os.kill = os.getpid = os.write = os._exit = None
      ${end}
    `);
    expect(ran.result).toMatchObject(outcome);
    expect(ran.stderr).not.toContain('podgate');
    expect(ran.files.get(name)?.toString()).toBe('kept');
    await expectNext(sandbox());
  });

  test('is its own where its audit hook refuses all that there is', async () => {
    const ran = await sandbox().run(py`
      import sys
      def refuse(event, _): raise RuntimeError(event)
      sys.addaudithook(refuse)
    `);
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
  });

  test('by a kind of KeyboardInterrupt is that of any other exception', async () => {
    const ran = await sandbox().run('class Own(KeyboardInterrupt): pass\nraise Own("x")');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 1, signal: null });
    expect(ran.stderr).toMatch(/Own: x\n$/);
  });

  test('by an interrupt below a function of the library is signaled, whatever it takes to show that line', async () => {
    const ran = await sandbox().run(py`
      import textwrap
      class Interrupted(str):
          def expandtabs(self, *_): raise KeyboardInterrupt
      textwrap.wrap(Interrupted("x"))
    `);
    expect(ran.stderr).toMatch(/textwrap\.py", line \d+, in .*\n.*\nKeyboardInterrupt\n$/s);
    expect(ran.result).toMatchObject({ outcome: 'signaled', exit_code: 130, signal: 2 });
  });

  test('by an interrupt is exited with 1 where a string is evaluated at exit, until Python 3.13', async () => {
    const ran = await sandbox().run(py`
      import atexit, sys
      from collections import namedtuple
      atexit.register(lambda: namedtuple("Late", "name"))
      print(sys.version_info < (3, 14))
      raise KeyboardInterrupt
    `);
    const forgotten = { outcome: 'exited', exit_code: 1, signal: null };
    const kept = { outcome: 'signaled', exit_code: 130, signal: 2 };
    expect(ran.result).toMatchObject(ran.stdout === 'True\n' ? forgotten : kept);
  });

  test.each([
    ['a profile function', 'sys.setprofile(lambda frame, *_: seen.append(frame.f_code.co_filename))'],
    ['a trace function', 'sys.settrace(lambda frame, *_: seen.append(frame.f_code.co_filename))'],
    ['a profiler', 'profiler = __import__("cProfile").Profile()\nprofiler.enable()'],
  ])('beside %s is its own, and shows it nothing of ours', async (_name, code) => {
    const before = py`
      import atexit, sys
      seen = []
      @atexit.register
      def leaving(): print(sorted({name for name in seen if "podgate" in name}))
      def work(): return len("x")
    `;
    for (const [end, exitCode] of [
      ['None', 0],
      ['1 / 0', 1],
    ]) {
      const ran = await sandbox().run(`${before}\n${code}\nwork()\n${end}`);
      expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: exitCode });
      expect(ran.stdout).toBe('[]\n');
      expect(ran.stderr).not.toContain('podgate');
    }
    await expectNext(sandbox());
  });

  test.each([
    ['waits for a thread', 'threading.Timer(0.1, os.kill, (os.getpid(), 2)).start()'],
    ['leaves a file open', 'warnings.simplefilter("always")\nfile = open(os.devnull)'],
    ['leaves a coroutine', 'async def never(): pass\nleft = never()'],
  ])('that %s and is told of it sees no line of ours', async (_name, code) => {
    const ran = await sandbox().run(`import os, threading, warnings\n${code}\nNone`);
    expect(ran.stderr).toMatch(/KeyboardInterrupt|ResourceWarning|RuntimeWarning/);
    expect(ran.stderr).not.toContain('podgate');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
  });
});
