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
