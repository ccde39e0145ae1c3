import { expect, test } from 'vitest';
import type { RunnerExecution } from '../../../agent/runner/runner-execution.ts';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { until } from '../../fakes/until.ts';
import { describePython } from './suite.ts';

const open = { language: 'bash', session: { do: 'open', ttl_seconds: 600 } } as const;

/** One terminal: what is typed, and the screen so far. */
function terminal(sandbox: Sandbox, options: RunOptions = {}) {
  let execution: RunnerExecution | undefined;
  let screen = '';
  let received = 0;
  const ended = sandbox.run('', {
    language: 'bash',
    session: { do: 'terminal', rows: 24, columns: 80 },
    env: { PS1: '$ ' },
    maxOutputBytes: 2 ** 40,
    ...options,
    onStarted: (started) => {
      execution = started;
    },
    onData: (current, ran) => {
      execution = current;
      screen = ran.stdout;
      received = ran.received[1];
    },
  });
  // A test that failed before it asked how this ended has said enough.
  ended.catch(() => {});
  return {
    ended,
    type: (text: string) => execution?.write(Buffer.from(text)),
    resize: (rows: number, columns: number) => execution?.resize(rows, columns),
    cancel: () => execution?.cancel('cancelled'),
    ready: () => execution !== undefined,
    received: () => received,
    shows: (text: string | RegExp) =>
      until(() => (typeof text === 'string' ? screen.includes(text) : text.test(screen))),
  };
}

describePython('a terminal of a session', (python) => {
  for (const place of ['shared', 'fresh'] as const) {
    const kept = async () => {
      const sandbox = await createSandbox({ python, config: { place, languages: ['python', 'bash'] } });
      expect((await sandbox.run('', open)).result).toMatchObject({ outcome: 'exited', exit_code: 0 });
      return sandbox;
    };

    test(`is a terminal to the shell and to what it runs (${place})`, async () => {
      await using sandbox = await kept();
      const shell = terminal(sandbox);
      await shell.shows('$ ');
      shell.type('tty; stty size; test -t 0 && echo "is one"; pwd\n');
      await shell.shows(/\/dev\/pts\/\d+\r\n24 80\r\nis one\r\n\/srv\r\n/);
      shell.resize(50, 132);
      shell.type('stty size; exit 7\n');
      const ran = await shell.ended;
      expect(ran.stdout).toContain('50 132\r\n');
      expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 7 });
    });

    test(`interrupts what is in front with Ctrl-C, and goes on (${place})`, async () => {
      await using sandbox = await kept();
      const shell = terminal(sandbox);
      await shell.shows('$ ');
      // Said by what is to be interrupted: the shell itself, between two commands, passes the key over.
      shell.type(`sh -c 'echo be""gun; exec sleep 1000'\n`);
      await shell.shows('begun');
      shell.type('\x03');
      // What is typed ahead of it is thrown away with it.
      await shell.shows(/\^C[^$]*\$ /);
      shell.type('echo sta""tus $?\n');
      await shell.shows('status 130');
      shell.type('exit\n');
      expect((await shell.ended).result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    });

    test(`ends with its shell, and all that its programs left ends with it (${place})`, async () => {
      await using sandbox = await kept();
      const before = sandbox.processes().length;
      const shell = terminal(sandbox);
      await shell.shows('$ ');
      shell.type('set -m; trap "" HUP TERM; (setsid sleep 1000 &) ; nohup sleep 1000 & disown -a; exit 5\n');
      expect((await shell.ended).result).toMatchObject({ outcome: 'exited', exit_code: 5 });
      await until(() => sandbox.processes().length === before);
    });

    test(`is told apart when its shell is killed, and when it is cancelled (${place})`, async () => {
      await using sandbox = await kept();
      const killed = terminal(sandbox);
      await killed.shows('$ ');
      killed.type('trap "" HUP; sleep 1000 & kill -9 $$\n');
      expect((await killed.ended).result).toMatchObject({ outcome: 'signaled', signal: 9, exit_code: 137 });
      const cancelled = terminal(sandbox);
      await cancelled.shows('$ ');
      cancelled.type('trap "" HUP INT TERM QUIT; while :; do sleep 1; done\n');
      cancelled.cancel();
      expect((await cancelled.ended).result).toMatchObject({ outcome: 'cancelled', exit_code: null });
    });

    test(`is not lost to a program that closes it, and not kept by one that holds it (${place})`, async () => {
      await using sandbox = await kept();
      const shell = terminal(sandbox);
      await shell.shows('$ ');
      // Nothing has the terminal open any more, not the shell either, for a while; then something has again.
      const away =
        'exec </dev/null >/dev/null 2>&1; sleep 0.3; echo ba""ck > $0; exec sh -i <$0 >$0 2>&1 3<$0';
      shell.type(`exec sh -c '${away}' $(tty)\n`);
      await shell.shows('back');
      shell.type('exit 0\n');
      const other = sandbox.run('sleep 0.2', { language: 'bash', session: { do: 'bash' } });
      expect((await shell.ended).result.exit_code).toBe(0);
      await other;
    });

    test(`types nothing into itself (${place})`, async () => {
      await using sandbox = await kept();
      const shell = terminal(sandbox);
      await shell.shows('$ ');
      shell.type(
        `python3 -c "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSTI, b'x')" 2>&1 | tail -1; exit\n`,
      );
      expect((await shell.ended).stdout).toMatch(/PermissionError|OSError/);
    });

    test(`gives every byte of a flood, as fast as it is read and no faster (${place})`, async () => {
      await using sandbox = await kept();
      const shell = terminal(sandbox, { env: { PS1: '' } });
      await until(() => shell.ready());
      shell.type('stty -echo -onlcr; seq 1 200000; exit\n');
      const { stdout, result } = await shell.ended;
      const numbers = Array.from({ length: 199_999 }, (_, index) => index + 2).join('\n');
      expect(result.stdout_truncated).toBe(false);
      expect(stdout.includes(`1\n${numbers}\n`)).toBe(true);
    });
  }

  test('holds a flood back while nobody takes it, and ends all the same', async () => {
    await using sandbox = await createSandbox({ python, config: { languages: ['python', 'bash'] } });
    expect((await sandbox.run('', open)).result.exit_code).toBe(0);
    const shell = terminal(sandbox, { grant: 262_144 });
    await shell.shows('$ ');
    shell.type('yes\n');
    await until(() => shell.received() === 262_144);
    shell.cancel();
    const { result } = await shell.ended;
    expect(result.outcome).toBe('cancelled');
    // What lies in the terminal, and not what the program would have written.
    expect(result.stdout_bytes).toBeLessThan(1_000_000);
  });

  test('says what is missing where a sandbox has no terminals', async () => {
    await using sandbox = await createSandbox({
      python,
      config: { languages: ['python', 'bash'] },
      without: '/dev/pts',
    });
    expect((await sandbox.run('', open)).result.exit_code).toBe(0);
    const { exit } = await terminal(sandbox).ended;
    expect(exit.failure).toMatchObject({ code: 'no_terminal', started: 'no' });
    expect(exit.failure?.detail).toMatch(/\/dev\/(ptmx|pts)/);
    expect((await sandbox.run('echo on', { language: 'bash', session: { do: 'bash' } })).stdout).toBe('on\n');
  });
});
