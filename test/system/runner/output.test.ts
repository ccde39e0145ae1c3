import { expect, test } from 'vitest';
import { STREAM_WINDOW_BYTES } from '../../../shared/limits.ts';
import { until } from '../../fakes/until.ts';
import { describeSandbox, expectNext, MIB, patience, py } from './suite.ts';

/** Past DRAIN_SECONDS of the runner. */
const DRAIN_MS = 2_200;

describeSandbox('output', (sandbox) => {
  test.each([
    ['a line', 'print("tick")', 'tick\n'],
    ['half a line', 'import sys; sys.stdout.write("tick")', 'tick'],
    ['stderr', 'import sys; sys.stderr.write("tick")', 'tick'],
    ["a child's line", 'import os; os.system("echo tick")', 'tick\n'],
  ])('arrives as it happens: %s', async (_name, code, expected) => {
    const ran = await sandbox().run(`${code}\nimport time; time.sleep(60)`, {
      onData: (execution, { stdout, stderr }) => {
        if (stdout + stderr === expected) execution.cancel('seen');
      },
    });
    expect(ran.result.outcome).toBe('cancelled');
  });

  test('passes every byte: NUL, half characters and invalid UTF-8', async () => {
    const ran = await sandbox().run(py`
      import sys
      every = bytes(range(256))
      sys.stdout.buffer.write(every * 300)
      sys.stderr.buffer.write(b"\xe2\x82" + every)
      None
    `);
    const every = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
    expect(ran.stdoutBytes.equals(Buffer.concat(Array(300).fill(every)))).toBe(true);
    expect(ran.stderrBytes.equals(Buffer.concat([Buffer.from([0xe2, 0x82]), every]))).toBe(true);
  });

  test('of characters of many bytes is the same however it is cut', async () => {
    const ran = await sandbox().run('for n in range(2000): print("é€😀" * 20)');
    expect(ran.stdout).toBe(`${'é€😀'.repeat(20)}\n`.repeat(2_000));
  });

  test('of a lone surrogate is an error of the program', async () => {
    const ran = await sandbox().run('print("\\ud800")');
    expect(ran.stderr).toContain('UnicodeEncodeError');
    expect(ran.result.exit_code).toBe(1);
  });

  test.each(['stdout', 'stderr'] as const)(
    'on %s at the cap is whole, and one past it is counted',
    async (name) => {
      const code = (size: number) => `import sys; sys.${name}.write("x" * ${size})\nNone`;
      const at = await sandbox().run(code(1_000), { maxOutputBytes: 1_000 });
      expect(at[name]).toHaveLength(1_000);
      expect(at.result).toMatchObject({ [`${name}_bytes`]: 1_000, [`${name}_truncated`]: false });
      const past = await sandbox().run(code(1_001), { maxOutputBytes: 1_000 });
      expect(past[name]).toHaveLength(1_000);
      expect(past.result).toMatchObject({
        [`${name}_bytes`]: 1_001,
        [`${name}_truncated`]: true,
        exit_code: 0,
      });
    },
  );

  test('has a cap for each stream', async () => {
    const ran = await sandbox().run(
      'import sys; sys.stdout.write("x" * 99); sys.stderr.write("y" * 100)\nNone',
      {
        maxOutputBytes: 99,
      },
    );
    expect([ran.stdout.length, ran.stderr.length]).toEqual([99, 99]);
    expect(ran.result).toMatchObject({ stdout_truncated: false, stderr_truncated: true, stderr_bytes: 100 });
  });

  test('of a cap of nothing is counted and not sent', async () => {
    const ran = await sandbox().run('print("x")', { maxOutputBytes: 0 });
    expect(ran.stdout).toBe('');
    expect(ran.result).toMatchObject({ stdout_bytes: 2, stdout_truncated: true });
  });

  test('past the cap lets the program go on to its end', async () => {
    const ran = await sandbox().run(
      py`
        import os
        block = b"x" * 65536
        for _ in range(1600): os.write(1, block)
        print("end", file=__import__("sys").stderr)
      `,
      { maxOutputBytes: 1_000 },
    );
    expect(ran.stderr).toBe('end\n');
    expect(ran.result).toMatchObject({ stdout_bytes: 1600 * 65_536, stdout_truncated: true, exit_code: 0 });
  });

  test('past the cap needs no credit', async () => {
    const ran = await sandbox().run(`import os\nfor _ in range(64): os.write(1, b"x" * 65536)\nos._exit(7)`, {
      maxOutputBytes: STREAM_WINDOW_BYTES,
      grant: STREAM_WINDOW_BYTES,
    });
    expect(ran.result).toMatchObject({ exit_code: 7, stdout_bytes: 64 * 65_536, stdout_truncated: true });
    expect(ran.stdoutBytes.byteLength).toBe(STREAM_WINDOW_BYTES);
  });

  test('on both streams at once takes no byte beyond its credit', async () => {
    let resume = () => {};
    let isStopped = false;
    let granted = 0;
    const first = STREAM_WINDOW_BYTES - 100;
    const ran = await sandbox().run(
      py`
        import os, time
        os.write(1, b"x" * ${first})
        while open("/proc/1/stat").read().split(") ")[1][0] != "T": time.sleep(0.001)
        os.write(1, b"o" * 100), os.write(2, b"e" * 100)
        None
      `,
      {
        grant: STREAM_WINDOW_BYTES,
        onExecution: (execution) => {
          resume = () => execution.window(64 * MIB);
        },
        onData: async (_execution, { received }) => {
          if (received[1] + received[2] === STREAM_WINDOW_BYTES && granted === 0) {
            await sandbox().client.ping(patience());
            granted = received[1] + received[2];
            resume();
          }
          if (received[1] !== first || isStopped) return;
          // When the runner's turn comes, both wait for the last of the credit.
          isStopped = true;
          process.kill(sandbox().pid, 'SIGSTOP');
          await until(() => sandbox().strays().length === 0);
          process.kill(sandbox().pid, 'SIGCONT');
        },
      },
    );
    expect(ran.result).toMatchObject({ outcome: 'exited', stdout_bytes: STREAM_WINDOW_BYTES });
    expect(granted).toBe(STREAM_WINDOW_BYTES);
    expect([ran.stdout.slice(-100), ran.stderr]).toEqual(['o'.repeat(100), 'e'.repeat(100)]);
  });

  test.each([130_000, 190_000])('of %i bytes on both streams deadlocks nobody', async (size) => {
    const ran = await sandbox().run(
      `import sys\nsys.stderr.write("e" * ${size})\nsys.stdout.write("o" * ${size})\nNone`,
    );
    expect([ran.stdout.length, ran.stderr.length]).toEqual([size, size]);
  });

  test.each([
    ['sys.stdout replaced', 'import io, sys\nsys.stdout = io.StringIO()\nprint("lost")\n1'],
    ['sys.stdout None', 'import sys\nsys.stdout = None\nprint("lost")'],
    ['sys.stdout closed', 'import sys\nsys.stdout.close()\nsys.stdout = sys.__stdout__ = None'],
    [
      'sys.stdout broken',
      'import sys\nclass B:\n    def write(self, *a): pass\n    def flush(self): pass\nsys.stdout = B()\n1',
    ],
    ['descriptors 0 to 2 closed', 'import os\nfor fd in range(3): os.close(fd)\nos._exit(0)'],
    ['all descriptors closed', 'import os\nos.closerange(0, 256)\nos._exit(0)'],
    [
      'stdout on a file',
      'import os\nos.dup2(os.open("/tmp/out", os.O_CREAT | os.O_WRONLY), 1)\nprint("lost")',
    ],
  ])('with %s is what still came through, and the end is seen', async (_name, code) => {
    const ran = await sandbox().run(code);
    expect(ran.stdout).toBe('');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    await expectNext(sandbox());
  });

  test('closed before the end is seen at the end', async () => {
    const ran = await sandbox().run(
      'import os, time\nprint("a")\nfor fd in range(3): os.close(fd)\ntime.sleep(0.2)\nos._exit(5)',
    );
    expect(ran.stdout).toBe('a\n');
    expect(ran.result.exit_code).toBe(5);
    expect(ran.result.duration_ms).toBeGreaterThanOrEqual(200);
  });

  test.each([
    ['stdout', 'import os\nos.write(1, b"x" * SIZE)'],
    ['stderr', 'import os\nos.write(2, b"x" * SIZE)'],
    ['both', 'import os\nos.write(1, b"x" * (SIZE // 2))\nos.write(2, b"x" * (SIZE // 2))'],
  ])(
    'that takes the last of its credit by the last byte, on %s, has an end all the same',
    async (_, code) => {
      const ran = await sandbox().run(`SIZE = ${STREAM_WINDOW_BYTES}\n${code}\nNone`, {
        grant: STREAM_WINDOW_BYTES,
        timeoutMs: 5_000,
      });
      expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0, stdout_truncated: false });
      expect(ran.result.stdout_bytes + ran.result.stderr_bytes).toBe(STREAM_WINDOW_BYTES);
      expect(ran.stdoutBytes.length + ran.stderrBytes.length).toBe(STREAM_WINDOW_BYTES);
    },
  );

  test('of a reader that grants nothing holds the program back', async () => {
    const { client } = sandbox();
    let received = 0;
    let full = () => {};
    const isFull = new Promise<void>((resolve) => {
      full = resolve;
    });
    let resume = () => {};
    const running = sandbox().run(
      py`
        import os
        for _ in range(64):
            os.write(1, b"x" * 65536)
        os.write(2, b"done")
        None
      `,
      {
        maxOutputBytes: 8 * MIB,
        grant: STREAM_WINDOW_BYTES,
        onExecution: (execution) => {
          resume = () => execution.window(64 * MIB);
        },
        onData: (_execution, ran) => {
          received = ran.received[1];
          if (received === STREAM_WINDOW_BYTES) full();
        },
      },
    );
    await isFull;
    for (let n = 0; n < 20; n += 1) await client.ping(patience());
    expect(received).toBe(STREAM_WINDOW_BYTES);
    expect(sandbox().strays().length).toBeGreaterThan(0);
    resume();
    const ran = await running;
    expect(ran.stdoutBytes.byteLength).toBe(64 * 65_536);
    expect(ran.stderr).toBe('done');
    expect(ran.result.exit_code).toBe(0);
  });

  test('of 2 GB to a reader that stalls takes no memory', async () => {
    const before = sandbox().runnerMemoryBytes();
    let during = 0;
    const ran = await sandbox().run(
      'import os\nblock = b"x" * (1 << 20)\nfor _ in range(2048): os.write(1, block)',
      {
        maxOutputBytes: 2_147_483_648,
        grant: 64 * MIB,
        onData: async (execution, { received }) => {
          if (during > 0 || received[1] < 64 * MIB) return;
          during = 1;
          for (let n = 0; n < 20; n += 1) await sandbox().client.ping(patience());
          during = sandbox().runnerMemoryBytes();
          execution.cancel('seen');
        },
      },
    );
    expect(ran.result.outcome).toBe('cancelled');
    expect(ran.stdoutBytes.byteLength).toBe(64 * MIB);
    expect(during - before).toBeLessThan(8 * MIB);
    await expectNext(sandbox());
  });

  test('of a reader that stalls is no way past the time limit, and is not lost', async () => {
    let resume = () => {};
    const running = sandbox().run('while True: print("x" * 9999)', {
      grant: STREAM_WINDOW_BYTES,
      timeoutMs: 500,
      maxOutputBytes: 64 * MIB,
      onExecution: (execution) => {
        resume = () => execution.window(64 * MIB);
      },
      onStarted: async () => {
        while (sandbox().strays().length > 0) await sandbox().client.ping(patience());
        resume();
      },
    });
    const ran = await running;
    expect(ran.result).toMatchObject({ outcome: 'timed_out', stdout_truncated: false });
    expect(ran.result.duration_ms).toBeLessThan(5_000);
    expect(ran.stdoutBytes.byteLength).toBeGreaterThanOrEqual(STREAM_WINDOW_BYTES);
    await expectNext(sandbox());
  });

  test('of a reader whose credit comes when the runner has waited for it long enough is whole', async () => {
    const size = STREAM_WINDOW_BYTES + 6_000;
    let resume = () => {};
    const ran = await sandbox().run(`import os\nos.write(2, b"x" * ${size})\nNone`, {
      grant: STREAM_WINDOW_BYTES,
      timeoutMs: 20_000,
      onExecution: (execution) => {
        resume = () => execution.window(64 * MIB);
      },
      onStarted: async () => {
        while (sandbox().strays().length > 0) await sandbox().client.ping(patience());
        // A machine with too much to do: when the runner's turn comes, credit and the end of its patience are both there.
        process.kill(sandbox().pid, 'SIGSTOP');
        resume();
        await new Promise((resolve) => setTimeout(resolve, DRAIN_MS));
        process.kill(sandbox().pid, 'SIGCONT');
      },
    });
    expect(ran.result).toMatchObject({ outcome: 'exited', stderr_bytes: size, stderr_truncated: false });
    expect(ran.stderrBytes.byteLength).toBe(size);
    await expectNext(sandbox());
  });

  test('without a newline is a flood like any other', async () => {
    const ran = await sandbox().run('import sys\nwhile True: sys.stdout.write("x" * 100000)', {
      timeoutMs: 500,
      maxOutputBytes: 1_000,
    });
    expect(ran.stdout).toBe('x'.repeat(1_000));
    expect(ran.result).toMatchObject({ outcome: 'timed_out', stdout_truncated: true });
    expect(ran.result.stdout_bytes).toBeGreaterThan(1_000);
    await expectNext(sandbox());
  });
});
