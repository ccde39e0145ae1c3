import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { createSandbox } from '../../fakes/runner-process.ts';
import { describePython, describeSandbox, expectNext, MIB, patience, py } from './suite.ts';

describeSandbox('stdin', (sandbox) => {
  test.each([
    ['absent', null],
    ['empty', ''],
  ])('that is %s is at its end at once', async (_name, stdin) => {
    const ran = await sandbox().run('import sys\nprint(repr(sys.stdin.read()))\ninput()', { stdin });
    expect(ran.stdout).toBe("''\n");
    expect(ran.stderr).toContain('EOFError');
    expect(ran.result.exit_code).toBe(1);
  });

  test('is given line by line and closed at its end', async () => {
    const ran = await sandbox().run('print(input(), input())\ntry: input()\nexcept EOFError: print("end")', {
      stdin: 'one\ntwo\n',
    });
    expect(ran.stdout).toBe('one two\nend\n');
  });

  test('is bytes: NUL, half characters, quotes and code in it mean nothing', async () => {
    const stdin = Buffer.concat([
      Buffer.from('\'\'\'\nimport os; os._exit(9)\n"""\0'),
      Buffer.from([0xc3, 0xff, 0xe2, 0x82]),
    ]);
    const ran = await sandbox().run('import sys\nprint(sys.stdin.buffer.read().hex())', { stdin });
    expect(ran.stdout).toBe(`${stdin.toString('hex')}\n`);
    expect(ran.result.exit_code).toBe(0);
  });

  test.each([200_000, 10 * MIB])('of %i bytes arrives whole', async (size) => {
    const stdin = Buffer.alloc(size, 'abcdefg\n');
    const ran = await sandbox().run(
      'import sys, hashlib\nprint(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())',
      { stdin },
    );
    expect(ran.stdout).toBe(`${createHash('sha256').update(stdin).digest('hex')}\n`);
  });

  test('of 60 MB is not held in the memory of what runs the sandbox', async () => {
    const before = sandbox().runnerMemoryBytes();
    let during = 0;
    await sandbox().run('print("up")\nimport time; time.sleep(60)', {
      stdin: Buffer.alloc(60 * MIB, 'x'),
      onData: (execution) => {
        during = sandbox().runnerMemoryBytes();
        execution.cancel('seen');
      },
    });
    expect(during - before).toBeLessThan(16 * MIB);
    await expectNext(sandbox());
  });

  test('that nobody reads holds nothing up', async () => {
    const ran = await sandbox().run('print("deaf")', { stdin: Buffer.alloc(5 * MIB, 'x') });
    expect(ran.stdout).toBe('deaf\n');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    await expectNext(sandbox());
  });

  test('that the program closes holds nothing up', async () => {
    const ran = await sandbox().run('import os, sys\nsys.stdin.read(1)\nos.close(0)\nprint("closed")', {
      stdin: Buffer.alloc(5 * MIB, 'x'),
    });
    expect(ran.stdout).toBe('closed\n');
    expect(ran.result.exit_code).toBe(0);
    await expectNext(sandbox());
  });

  test('reaches the children of the program', async () => {
    const ran = await sandbox().run('import subprocess\nsubprocess.run(["cat"])\nNone', { stdin: 'through' });
    expect(ran.stdout).toBe('through');
  });

  test('is not a terminal and gives no debugger', async () => {
    const ran = await sandbox().run(
      'import sys\nprint(sys.stdin.isatty(), sys.stdout.isatty())\nbreakpoint()\nprint("after")',
    );
    expect(ran.stdout).toContain('False False\n');
    expect(ran.result.outcome).toBe('exited');
  });
});

describePython('stdin in a session', (python) => {
  test('that finds little room in a pipe, as its user has many, waits for its reader and holds nothing up', async () => {
    await using sandbox = await createSandbox({ python });
    await sandbox.run('', { language: 'bash', session: { do: 'open', ttl_seconds: 600 } });
    const full = py`
      import fcntl, os
      held = []
      def capacity(): return fcntl.fcntl(held[-1][1], fcntl.F_GETPIPE_SZ)
      def more():
          held.append(os.pipe())
          return capacity()
      fcntl.F_SETPIPE_SZ, fcntl.F_GETPIPE_SZ = 1031, 1032
      usual = more()
      while more() == usual:
          try: fcntl.fcntl(held[-1][1], fcntl.F_SETPIPE_SZ, 1 << 20)
          except PermissionError: pass
      print(usual > 20_000 > capacity())
    `;
    const filled = await sandbox.run(full, { session: { do: 'python', context: 'main', rich: false } });
    expect(filled.stdout).toBe('True\n');
    const ran = sandbox.run('wc -c', {
      language: 'bash',
      session: { do: 'bash' },
      stdin: Buffer.alloc(20_000),
    });
    await sandbox.client.ping(patience());
    expect((await ran).stdout).toBe('20000\n');
  });
});
