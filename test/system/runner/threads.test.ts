import { expect, test } from 'vitest';
import { describeSandbox, expectUnharmed, py } from './suite.ts';

describeSandbox(
  'a program with threads',
  (sandbox) => {
    test('starts a hundred of them within 256 MB, each with room for a recursion', async () => {
      const ran = await sandbox().run(py`
      import threading
      done, go = [], threading.Barrier(100)
      def deep(n): return n if n == 900 else deep(n + 1)
      def work():
          go.wait()
          done.append(deep(0))
      threads = [threading.Thread(target=work) for _ in range(100)]
      for thread in threads: thread.start()
      for thread in threads: thread.join()
      print(len(done), set(done))
    `);
      expect(ran.stderr).toBe('');
      expect(ran.stdout).toBe('100 {900}\n');
      await expectUnharmed(sandbox());
    });

    test('has room for a large stack beside its memory, one after the other, and still meets its MemoryError', async () => {
      const ran = await sandbox().run(py`
      import threading, traceback
      threading.stack_size(256 << 20)
      def work():
          for size in 250, 262:
              try: print(len(bytearray(size << 20)) >> 20)
              except MemoryError: print("no room for", size)
      def once(work):
          thread = threading.Thread(target=work)
          thread.start()
          thread.join()
      once(work)
      for _ in range(100): once(int)
      try: threading.stack_size(1)
      except ValueError as error: print(type(error), len(traceback.extract_tb(error.__traceback__)))
    `);
      expect(ran.stderr).toBe('');
      expect(ran.stdout).toBe("250\nno room for 262\n<class 'ValueError'> 1\n");
      await expectUnharmed(sandbox());
    });

    test('has room for several large stacks at once, up to a gigabyte', async () => {
      const ran = await sandbox().run(py`
      import threading
      threading.stack_size(128 << 20)
      over = threading.Event()
      made = 0
      try:
          while made < 20:
              threading.Thread(target=over.wait).start()
              made += 1
      except (RuntimeError, MemoryError): pass
      over.set()
      print(8 <= made < 10)
    `);
      expect(ran.stdout).toBe('True\n');
      const unjoined = await sandbox().run(py`
      import threading, time
      threading.stack_size(64 << 20)
      threads = [threading.Thread(target=int) for _ in range(12)]
      for thread in threads:
          thread.start()
          while thread.is_alive(): time.sleep(0.001)
      print("begun")
    `);
      expect([unjoined.stdout, unjoined.stderr]).toEqual(['begun\n', '']);
      await expectUnharmed(sandbox());
    });

    test('dies at its memory limit of the large stack that it uses', async () => {
      const ran = await sandbox().run(py`
      import ctypes, threading, time
      threading.stack_size(512 << 20)
      def work():
          for line in open("/proc/self/maps"):
              begin, end = (int(part, 16) for part in line.split()[0].split("-"))
              if 500 << 20 < end - begin < 600 << 20 and " rw-p " in line: ctypes.memset(end - (400 << 20), 1, 300 << 20)
          time.sleep(60)
      thread = threading.Thread(target=work)
      thread.start()
      thread.join()
    `);
      expect(ran.result).toMatchObject({ outcome: 'memory_limit', exit_code: 137 });
      await expectUnharmed(sandbox());
    });

    test('dies at its memory limit where it takes the room for stacks as its own', async () => {
      const ran = await sandbox().run(py`
      import resource, time
      _, most = resource.getrlimit(resource.RLIMIT_DATA)
      resource.setrlimit(resource.RLIMIT_DATA, (most, most))
      held = bytearray(b"x") * (400 << 20)
      time.sleep(60)
    `);
      expect(ran.result).toMatchObject({ outcome: 'memory_limit', exit_code: 137 });
      await expectUnharmed(sandbox());
    });

    test('has the usual stack in its main thread', async () => {
      const ran = await sandbox().run(py`
      import resource, sys
      sys.setrecursionlimit(2000)
      # Through C: each level takes some hundred bytes of the stack itself.
      def deep(n): return n if n == 0 else max(map(deep, [n - 1]))
      print(resource.getrlimit(resource.RLIMIT_STACK)[0] >= 8 << 20, deep(400))
    `);
      expect(ran.stderr).toBe('');
      expect(ran.stdout).toBe('True 0\n');
    });
  },
  // The defaults of a template.
  { config: { limits: { cpu_seconds: 20 } } },
);
