import { expect, test } from 'vitest';
import { createSandbox } from '../../fakes/runner-process.ts';
import { describePython, describeSandbox, expectUnharmed, MIB } from './suite.ts';

describeSandbox('bash', (sandbox) => {
  test('is named in READY with its version, and so is Python', () => {
    expect(sandbox().ready.languages.bash).toMatch(/^\d+\.\d+/);
    expect(sandbox().ready.languages.python).toMatch(/^3\.\d+\.\d+/);
    expect(sandbox().ready.python).toContain(sandbox().ready.languages.python);
  });

  test('runs a script with arguments, stdin and environment', async () => {
    const ran = await sandbox().run('echo "$0|$1|$2|$#|$PWD|$HOME|$X"; cat; exit 3', {
      language: 'bash',
      args: ['a b', '*'],
      stdin: 'from stdin\n',
      env: { X: 'y' },
    });
    expect(ran.stdout).toBe('/srv/__main__.sh|a b|*|2|/srv|/tmp|y\nfrom stdin\n');
    expect(ran.stderr).toBe('');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 3 });
  });

  test.each([
    ['kill -9 $$', 'signaled', 137, 9],
    ['kill -TERM $$', 'signaled', 143, 15],
    ['exit 137', 'exited', 137, null],
    ['no-such-command', 'exited', 127, null],
    ['if', 'exited', 2, null],
    ['bash -c "kill -9 \\$\\$"', 'exited', 137, null],
  ])('ends %j as %s with %i', async (code, outcome, exitCode, signal) => {
    const { result } = await sandbox().run(code, { language: 'bash' });
    expect(result).toMatchObject({ outcome, exit_code: exitCode, signal });
  });

  test('has the limits that Python has', async () => {
    const timed = await sandbox().run('sleep 60', { language: 'bash', timeoutMs: 300 });
    expect(timed.result).toMatchObject({ outcome: 'timed_out', exit_code: null });
    const cpu = await sandbox().run('while :; do :; done', { language: 'bash', cpuSeconds: 1 });
    expect(cpu.result).toMatchObject({ outcome: 'cpu_limit' });
    const memory = await sandbox().run('x=$(head -c 1000000000 /dev/zero | tr "\\0" x); echo end', {
      language: 'bash',
      memoryBytes: 128 * MIB,
    });
    expect(memory.result).toMatchObject({ outcome: 'exited', exit_code: 2 });
    await expectUnharmed(sandbox());
  });

  test('has the usual signals, pipes and files', async () => {
    const ran = await sandbox().run('yes | head -1; echo x > out; (exit $PIPESTATUS); echo $?', {
      language: 'bash',
    });
    expect(ran.stdout).toBe('y\n0\n');
    expect([...ran.files.keys()]).toEqual(['out']);
    const pipe = await sandbox().run('yes | head -1; echo $PIPESTATUS', { language: 'bash' });
    expect(pipe.stdout).toBe('y\n141\n');
    await expectUnharmed(sandbox());
  });

  test('has the filter and no privileges', async () => {
    const ran = await sandbox().run(
      'grep -E "^(NoNewPrivs|Seccomp|CapEff):" /proc/self/status; cat /proc/self/oom_score_adj',
      {
        language: 'bash',
      },
    );
    expect(ran.stdout).toBe('CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n1000\n');
  });

  test('takes a script of 200 KB, CRLF not forgiven, NUL not fatal to us', async () => {
    const ran = await sandbox().run(`: ${'x'.repeat(200_000)}\necho end`, { language: 'bash' });
    expect(ran.stdout).toBe('end\n');
    const nul = await sandbox().run('echo a\0b', { language: 'bash' });
    expect(nul.result.outcome).toBe('exited');
    await expectUnharmed(sandbox());
  });
});

describeSandbox('Node', (sandbox) => {
  test.beforeEach((context) => {
    if (!sandbox().ready.languages.node) context.skip("no node on the PATH that the sandbox's user can run");
  });

  test('runs a script with arguments, stdin and environment', async () => {
    const code = `
      process.stdin.on('data', (chunk) => process.stdout.write('in:' + chunk));
      process.stdin.on('end', () => process.exit(4));
      console.log(JSON.stringify([process.argv.slice(1), process.cwd(), process.env.X, require.main === module]));
    `;
    const ran = await sandbox().run(code, { language: 'node', args: ['a b'], stdin: 'x', env: { X: 'y' } });
    expect(ran.stdout).toBe('[["/srv/__main__.js","a b"],"/srv","y",true]\nin:x');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 4 });
  });

  test('fails as Node fails', async () => {
    const ran = await sandbox().run('throw new Error("broken")', { language: 'node' });
    expect(ran.stderr).toContain('Error: broken');
    expect(ran.stderr).toContain('/srv/__main__.js:1');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 1 });
  });

  test('has the limits that Python has', async () => {
    const timed = await sandbox().run('setInterval(() => {}, 1000)', { language: 'node', timeoutMs: 500 });
    expect(timed.result).toMatchObject({ outcome: 'timed_out', exit_code: null });
    const memory = await sandbox().run('const a = []; for (;;) a.push(Buffer.alloc(1 << 20, 1))', {
      language: 'node',
    });
    expect(memory.result.outcome).toBe('signaled');
    expect([133, 134]).toContain(memory.result.exit_code);
    const large = await sandbox().run('Buffer.alloc(2 ** 30)', { language: 'node' });
    expect(large.result).toMatchObject({ outcome: 'exited', exit_code: 1 });
    expect(large.stderr).toContain('RangeError');
    expect(memory.result.peak_memory_bytes).toBeLessThan(400 * MIB);
    await expectUnharmed(sandbox());
  });

  test('makes no socket, reads and writes files', async () => {
    const code = `
      require('node:fs').writeFileSync('out.txt', 'x');
      require('node:net').connect(80, '127.0.0.1').on('error', (error) => console.log(error.code)).on('connect', () => console.log('reached'));
    `;
    const ran = await sandbox().run(code, { language: 'node' });
    expect(ran.stdout).toMatch(/^(EPERM|EACCES|EAFNOSUPPORT)\n$/);
    expect(ran.files.get('out.txt')?.toString()).toBe('x');
    await expectUnharmed(sandbox());
  });
});

describePython('a language', (python) => {
  test('that the template does not offer is refused before anything runs', async () => {
    await using sandbox = await createSandbox({ python, config: { languages: ['python'] } });
    expect(Object.keys(sandbox.ready.languages)).toEqual(['python']);
    const ran = await sandbox.run('echo ran', { language: 'bash' });
    expect(ran.started).toBe(false);
    expect(ran.exit.failure).toMatchObject({ started: 'no' });
    await expectUnharmed(sandbox);
  });
});
