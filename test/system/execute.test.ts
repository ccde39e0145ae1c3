import { getPriority } from 'node:os';
import { expect, test } from 'vitest';
import type { ExecuteResult } from '../../client/types.ts';
import { describeStack } from './suite.ts';

const MARKER = '\n...[truncated]';
const CAP = 1_000_000;

describeStack('POST /v1/execute', {}, (stack) => {
  const answerOf = async (body: unknown) => {
    const response = await stack().post('/v1/execute', body);
    return { response, status: response.status, body: (await response.json()) as ExecuteResult };
  };

  test('answers existing clients with exactly the members that they read, of the right types', async () => {
    const { response, body } = await answerOf({ code: 'print(6 * 7)' });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toMatch(/^application\/json/);
    expect(body).toMatchObject({ stdout: '42\n', stderr: '', exit_code: 0, timed_out: false, files: [] });
    expect(Number.isInteger(body.duration_ms)).toBe(true);
  });

  test('answers with everything that Podgate adds', async () => {
    const { response, body } = await answerOf({
      code: 'import sys\nprint("é")\nprint("abc", end="", file=sys.stderr)',
    });
    expect(body).toEqual({
      stdout: 'é\n',
      stderr: 'abc',
      exit_code: 0,
      timed_out: false,
      duration_ms: expect.any(Number),
      files: [],
      execution_id: response.headers.get('podgate-execution-id'),
      cluster: 'local',
      outcome: 'exited',
      signal: null,
      stdout_bytes: 3,
      stderr_bytes: 3,
      stdout_truncated: false,
      stderr_truncated: false,
      queue_ms: expect.any(Number),
      cpu_ms: expect.any(Number),
      peak_memory_bytes: expect.any(Number),
      files_omitted: [],
      files_omitted_count: 0,
    });
    expect(body.peak_memory_bytes).toBeGreaterThan(1_000_000);
  });

  test('runs at the priority that the agent began with, and cannot raise it', async () => {
    const own = getPriority();
    const { body } = await answerOf({
      code: `
import os, resource
print(os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, 1) if os.getpid() != 1 else None)
os.nice(3)
os.setpriority(os.PRIO_PROCESS, 0, ${own - 1})
`,
    });
    expect(body.stdout).toBe(`${own} ${own}\n`);
    expect(body.stderr).toMatch(/PermissionError/);
  });

  test('ignores members that it does not know', async () => {
    const { status, body } = await answerOf({
      code: 'print(1)',
      runtime: 'v8',
      files: [],
      nested: { a: [1] },
    });
    expect({ status, stdout: body.stdout }).toEqual({ status: 200, stdout: '1\n' });
  });

  test.each([
    ['import sys; sys.exit(3)', 3, 'exited', null],
    ['import os; os._exit(255)', 255, 'exited', null],
    ['raise SystemExit', 0, 'exited', null],
    ['1 / 0', 1, 'exited', null],
    ['import os, signal; os.kill(os.getpid(), signal.SIGKILL)', 137, 'signaled', 9],
    ['import ctypes; ctypes.string_at(0)', 139, 'signaled', 11],
    ['import os; os.abort()', 134, 'signaled', 6],
    ['import os, signal; os.kill(os.getpid(), signal.SIGTERM)', 143, 'signaled', 15],
    ['import os; os.execvp("sh", ["sh", "-c", "exit 7"])', 7, 'exited', null],
  ])('gives the exit code that the program has itself: %s', async (code, exit_code, outcome, signal) => {
    expect(await stack().run(code)).toMatchObject({ exit_code, outcome, signal, timed_out: false });
  });

  test('says in so many words that a program ran out of time, and gives no exit code', async () => {
    const { status, body } = await answerOf({ code: 'print("begun")\nwhile True: pass', timeout_ms: 700 });
    expect(status).toBe(200);
    expect(body).toMatchObject({ stdout: 'begun\n', exit_code: null, timed_out: true, outcome: 'timed_out' });
    expect(body.duration_ms).toBeGreaterThanOrEqual(700);
    expect(body.duration_ms).toBeLessThan(2_000);
  });

  test('gives a program two seconds unless told otherwise', async () => {
    const { body } = await answerOf({ code: 'import time; time.sleep(30)' });
    expect(body).toMatchObject({ timed_out: true, exit_code: null });
    expect(body.duration_ms).toBeGreaterThanOrEqual(2_000);
    expect(body.duration_ms).toBeLessThan(3_000);
  });

  test('ends a program that used up its processor time with 152, one that ignores the warning with 137', async () => {
    const limits = { cpu_seconds: 1 };
    const [heeds, ignores] = await Promise.all([
      stack().run('while True: pass', { limits, timeout_ms: 20_000 }),
      stack().run('import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass', {
        limits,
        timeout_ms: 20_000,
      }),
    ]);
    expect(heeds).toMatchObject({ exit_code: 152, outcome: 'cpu_limit', timed_out: false });
    expect(ignores).toMatchObject({ exit_code: 137, outcome: 'cpu_limit', timed_out: false });
    expect(heeds.cpu_ms).toBeGreaterThanOrEqual(950);
  });

  test('lets a program meet its MemoryError, and ends one that evades it with 137', async () => {
    const met = await stack().run('x = bytearray(1 << 30)', { timeout_ms: 20_000 });
    expect(met).toMatchObject({ exit_code: 1, outcome: 'exited' });
    expect(met.stderr).toMatch(/MemoryError\n$/);
    const code = `
import mmap, os
for _ in range(8):
    if os.fork() == 0:
        shared = mmap.mmap(-1, 100 << 20)
        for at in range(0, 100 << 20, 4096): shared[at] = 1
        os.pause() if hasattr(os, "pause") else __import__("time").sleep(60)
for _ in range(8): os.wait()
`;
    const evaded = await stack().run(code, { timeout_ms: 20_000 });
    expect(evaded).toMatchObject({ exit_code: 137, outcome: 'memory_limit', timed_out: false });
  });

  test.each([
    ['1 + 1', '2\n'],
    ['None', ''],
    ['"a"; "b"', "'b'\n"],
    ['x = 5\nx', '5\n'],
    ['for i in range(3): i', ''],
    ['if True:\n  7', ''],
    ['print("p")\n[1, 2]', 'p\n[1, 2]\n'],
    ['from __future__ import annotations\nx: Undefined = 1\nx', '1\n'],
    ['tree = 1\nast = 2\ntree + ast', '3\n'],
  ])('prints the value of a last expression, and only of the last: %j', async (code, stdout) => {
    expect(await stack().run(code)).toMatchObject({ stdout, stderr: '', exit_code: 0 });
    const quiet = await stack().run(code, { last_line_interactive: false });
    expect(quiet.stdout).toBe(stdout.startsWith('p\n') ? 'p\n' : '');
  });

  test('shows source lines and no frame of its own in a traceback', async () => {
    const { stderr, exit_code } = await stack().run('def f():\n    return 1 / 0\n\nf()\n');
    expect(exit_code).toBe(1);
    expect(stderr.split('\n').filter((line) => line.includes('File "'))).toHaveLength(2);
    expect(stderr).toContain('    return 1 / 0');
    expect(stderr).not.toMatch(/podgate/i);
  });

  test.each([
    ['closed when none is given', null, "''"],
    ['closed when it is empty', '', "''"],
    ['whole and then closed', 'zwölf\n\0x', "'zwölf\\n\\x00x'"],
  ])('has a standard input that is %s', async (_, stdin, repr) => {
    const ran = await stack().run('import sys; sys.stdin.read()', { stdin });
    expect(ran).toMatchObject({ stdout: `${repr}\n`, exit_code: 0 });
  });

  test('fails input() with EOFError instead of waiting', async () => {
    const { stderr, exit_code } = await stack().run('input()');
    expect(exit_code).toBe(1);
    expect(stderr).toMatch(/EOFError/);
  });

  test('takes megabytes of standard input that the program never reads', async () => {
    const ran = await stack().run('print("done")', { stdin: 'x'.repeat(4_000_000) });
    expect(ran).toMatchObject({ stdout: 'done\n', exit_code: 0 });
  });

  test("keeps ''' and every other character of input from running as code", async () => {
    const stdin = `'''\n"""\nimport os; print("ran")\n\\\n\${x} \`id\`; exit 9\n`;
    const ran = await stack().run('import sys; sys.stdout.write(sys.stdin.read())', {
      stdin,
      last_line_interactive: false,
    });
    expect(ran.stdout).toBe(stdin);
  });

  test('takes a program of 300 KB', async () => {
    const { stdout } = await stack().run(`x = """${'y'.repeat(300_000)}"""\nlen(x)`);
    expect(stdout).toBe('300000\n');
  });

  test('passes arguments and variables as they are', async () => {
    const args = ['--flag', '', 'a b', "'", 'ü\n'];
    const ran = await stack().run(
      'import sys, os; print(sys.argv[1:], os.environ["GREETING"], os.environ["HOME"])',
      {
        args,
        env: { GREETING: 'grüß=dich\n!' },
      },
    );
    expect(ran.stdout).toBe("['--flag', '', 'a b', \"'\", 'ü\\n'] grüß=dich\n! /tmp\n");
  });

  test('gives a program no variable of the agent or of Podgate', async () => {
    const { stdout } = await stack().run('import os; print("\\n".join(sorted(os.environ)))');
    expect(stdout).not.toMatch(/PODGATE|KUBERNETES|_SERVICE_|TOKEN|NODE_/);
    expect(stdout).toMatch(/^LANG$/m);
  });

  test('runs bash and node with the same limits and outcomes', async () => {
    const bash = await stack().run('read line; echo "$line $1 $X"; echo e >&2; exit 4', {
      language: 'bash',
      stdin: 'in\n',
      args: ['arg'],
      env: { X: 'x' },
    });
    expect(bash).toMatchObject({ stdout: 'in arg x\n', stderr: 'e\n', exit_code: 4, outcome: 'exited' });
    expect(await stack().run('kill -9 $$', { language: 'bash' })).toMatchObject({
      exit_code: 137,
      signal: 9,
    });
    const node = await stack().run('console.log(process.argv.slice(2), process.env.X); process.exit(5)', {
      language: 'node',
      args: ['arg'],
      env: { X: 'x' },
      timeout_ms: 20_000,
    });
    expect(node).toMatchObject({ stdout: "[ 'arg' ] x\n", exit_code: 5 });
    expect(await stack().run('for (;;);', { language: 'node', timeout_ms: 1_000 })).toMatchObject({
      timed_out: true,
    });
  });
});

describeStack('The output of a program', {}, (stack) => {
  const printed = (bytes: number, stream = 'stdout') =>
    stack().run(
      `import sys; sys.${stream}.write("x" * ${bytes}); sys.${stream}.flush(); open("after", "w")`,
      {
        last_line_interactive: false,
      },
    );

  test.each(['stdout', 'stderr'] as const)(
    'on %s is whole at MAX_OUTPUT_BYTES and cut one past it',
    async (stream) => {
      const whole = await printed(CAP, stream);
      expect(whole[stream]).toBe('x'.repeat(CAP));
      expect(whole).toMatchObject({ [`${stream}_bytes`]: CAP, [`${stream}_truncated`]: false });
      const cut = await printed(CAP + 1, stream);
      expect(cut[stream]).toBe('x'.repeat(CAP - MARKER.length) + MARKER);
      expect(cut).toMatchObject({
        [`${stream}_bytes`]: CAP + 1,
        [`${stream}_truncated`]: true,
        exit_code: 0,
      });
      // The program went on past the cap, to its end.
      expect(cut.files.map(({ path }) => path)).toEqual(['after']);
    },
  );

  test('has a cap for each stream by itself', async () => {
    const { stdout, stderr } = await stack().run(
      'import sys\nprint("x" * 40)\nprint("y" * 3, file=sys.stderr)',
      {
        limits: { max_output_bytes: 20 },
      },
    );
    expect([stdout, stderr]).toEqual([`xxxxx${MARKER}`, 'yyy\n']);
  });

  test('is counted past the cap, without end', async () => {
    const ran = await printed(30_000_000);
    expect(ran).toMatchObject({ stdout_bytes: 30_000_000, stdout_truncated: true, exit_code: 0 });
    expect(Buffer.byteLength(ran.stdout)).toBe(CAP);
  });

  test.each([0, 1, 2, 3])('is never cut inside a character (%i bytes before it)', async (before) => {
    const cap = 40 + MARKER.length;
    const code = `import sys; sys.stdout.write("a" * ${before} + "𝄞" * 100)`;
    const { stdout, stdout_bytes } = await stack().run(code, {
      limits: { max_output_bytes: cap },
      last_line_interactive: false,
    });
    expect(stdout).not.toContain('\ufffd');
    expect(stdout).toBe('a'.repeat(before) + '𝄞'.repeat(Math.floor((40 - before) / 4)) + MARKER);
    expect(stdout_bytes).toBe(before + 400);
  });

  test('keeps NUL and replaces what is no UTF-8, each in its place', async () => {
    const ran = await stack().run(
      'import sys; sys.stdout.buffer.write(b"a\\x00b\\xff\\xfec\\xc3\\xa9\\xe2\\x82"); None',
    );
    expect(ran.stdout).toBe('a\0b\ufffd\ufffdcé\ufffd');
    expect(ran.stdout_bytes).toBe(10);
  });

  test('of characters of many bytes written byte by byte arrives whole', async () => {
    const { stdout } = await stack().run(
      'import os\nfor byte in ("Grüße 世界 🙂\\n" * 50).encode(): os.write(1, bytes([byte]))',
    );
    expect(stdout).toBe('Grüße 世界 🙂\n'.repeat(50));
  });

  test('of 200 KB on both streams at once blocks nobody', async () => {
    const { stdout, stderr } = await stack().run(
      'import sys\nfor i in range(200): sys.stdout.write("o" * 1000); sys.stderr.write("e" * 1000)',
    );
    expect([stdout.length, stderr.length]).toEqual([200_000, 200_000]);
  });

  test('of a program that is killed is there up to that point', async () => {
    const ran = await stack().run('print("before")\nimport os; os.kill(os.getpid(), 9)');
    expect(ran).toMatchObject({ stdout: 'before\n', exit_code: 137 });
  });

  test('over the hard cap that a request may set ends the program with output_limit', async () => {
    const ran = await stack().run('while True: print("x" * 1000)', {
      limits: { output_limit_bytes: 100_000 },
      timeout_ms: 20_000,
    });
    expect(ran).toMatchObject({ outcome: 'output_limit', exit_code: 137, timed_out: false });
  });
});
