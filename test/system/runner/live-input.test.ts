import { createHash, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { LiveInput, type WriterPort } from '../../../agent/executions/live-input.ts';
import type { RunnerExecution } from '../../../agent/runner/runner-execution.ts';
import { STREAM_WINDOW_BYTES } from '../../../shared/limits.ts';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { describePython, py } from './suite.ts';

/** What a pipe holds here. */
const PIPE_BYTES = 65_536;

const open = { language: 'bash', session: { do: 'open', ttl_seconds: 600 } } as const;
const fed = { language: 'bash', session: { do: 'bash', input: true } } as const;

function writerTo(live: LiveInput, onConsumed: (count: number) => void = () => {}) {
  const heard = { consumed: 0, over: '' };
  const port: WriterPort = {
    taking() {},
    consumed: (count) => {
      heard.consumed += count;
      onConsumed(count);
    },
    inputOver: ({ why }) => {
      heard.over = why;
    },
  };
  return { heard, input: live.open('test', port) };
}

function announcedBytes(cmd: string, { env = {}, stdin }: RunOptions): number {
  const manifest = JSON.stringify({ args: [], env, files: [] });
  return Buffer.byteLength(manifest + cmd) + Buffer.from(stdin ?? '').byteLength;
}

describePython('a program that is fed while it runs', (python) => {
  const kept = async () => {
    const sandbox = await createSandbox({
      python,
      config: { languages: ['python', 'bash'], attach: 'socket' },
    });
    expect((await sandbox.run('', open)).result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    return sandbox;
  };

  /** Runs a command with `stdin` announced, and feeds it as `feed` says once it began. */
  const feed = (sandbox: Sandbox, cmd: string, options: RunOptions, onStarted: (live: LiveInput) => void) => {
    const live = new LiveInput(announcedBytes(cmd, options));
    let current: RunnerExecution;
    return sandbox.run(cmd, {
      ...fed,
      ...options,
      onStarted: (execution) => {
        current = execution;
        live.begin({
          write: (bytes) => current.write(bytes),
          endInput: () => current.endInput(),
          resize() {},
        });
        onStarted(live);
      },
      onLost: (checkpoint, handlers) => {
        current = sandbox.attach(2, [{ checkpoint, handlers }]).resumed[0] as RunnerExecution;
        return current;
      },
      onInputWindow: (limit) => live.window(limit),
      onInputResumed: (received) => live.resume(received),
    });
  };

  test('reads what was announced, then what comes, until its end is said', async () => {
    await using sandbox = await kept();
    const ran = await feed(sandbox, 'cat; echo over', { stdin: 'first ' }, (live) => {
      const { input } = writerTo(live);
      input.data(Buffer.from('then '));
      setImmediate(() => {
        input.data(Buffer.from('last\n'));
        input.end();
      });
    });
    expect(ran.stdout).toBe('first then last\nover\n');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
  });

  test('takes into its pipe what that holds and no more, and gives no credit for it, while the program reads nothing', async () => {
    await using sandbox = await kept();
    // Says when its pipe is as full as it gets, and ends when that was heard.
    const idle = py`
      import fcntl, os, struct, sys, time, termios
      def waits(): return struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, b"0000"))[0]
      while waits() < ${PIPE_BYTES}: time.sleep(0.01)
      print("full", flush=True)
      while not os.path.exists("go"): time.sleep(0.01)
      print(waits(), os.read(0, 3))
    `;
    let whileItRuns: number | undefined;
    let heard = { consumed: -1, over: '' };
    let letGo: Promise<unknown> | undefined;
    const ran = await feed(
      sandbox,
      `exec python3 -c '${idle}'`,
      {
        onData: (_, { stdout }) => {
          if (stdout !== 'full\n' || whileItRuns !== undefined) return;
          whileItRuns = heard.consumed;
          letGo = sandbox.run(': >go', { language: 'bash', session: { do: 'bash' } });
        },
      },
      (live) => {
        const writer = writerTo(live);
        heard = writer.heard;
        writer.input.data(Buffer.alloc(STREAM_WINDOW_BYTES, 'x'));
      },
    );
    await letGo;
    expect(whileItRuns).toBe(0);
    expect(ran.stdout).toBe(`full\n${PIPE_BYTES} b'xxx'\n`);
    expect(ran.result.exit_code).toBe(0);
  });

  test('is credited with half a window as soon as the program took that, and not a byte before', async () => {
    await using sandbox = await kept();
    const reads = py`
      import os
      def take(count):
          while count > 0: count -= len(os.read(0, count))
      take(int(os.environ["HALF"]) - 1)
      print("almost", flush=True)
      take(1)
      print("half", os.read(0, 1))
    `;
    const cmd = `exec python3 -c '${reads}'`;
    // What is announced with START counts too.
    const half = STREAM_WINDOW_BYTES / 2 - announcedBytes(cmd, { env: { HALF: '000000' } });
    const env = { HALF: String(half).padStart(6, '0') };
    const seen: number[] = [];
    let writer: ReturnType<typeof writerTo> | undefined;
    const ran = await feed(
      sandbox,
      cmd,
      {
        env,
        onData: (_, { stdout }) => {
          if (!writer || stdout !== 'almost\n' || seen.length > 0) return;
          seen.push(writer.heard.consumed);
          writer.input.data(Buffer.from('x'));
        },
      },
      (live) => {
        const credited = (count: number) => {
          seen.push(count);
          writer?.input.end();
        };
        writer = writerTo(live, credited);
        writer.input.data(Buffer.alloc(half - 1, 'x'));
      },
    );
    expect(ran.stdout).toBe("almost\nhalf b''\n");
    expect(seen).toEqual([0, half]);
  });

  test('gets every byte once when the stream to its sandbox is replaced under it', async () => {
    await using sandbox = await kept();
    const input = randomBytes(1_000_000);
    const digest = createHash('sha256').update(input).digest('hex');
    let lost = false;
    let sent = 0;
    let room = STREAM_WINDOW_BYTES;
    const ran = await feed(sandbox, 'sha256sum', {}, (live) => {
      const port: WriterPort = {
        taking() {},
        // The word on several pieces may come at once.
        consumed(bytes) {
          if (!lost) {
            lost = true;
            sandbox.client.close();
          }
          room += bytes;
          more();
        },
        inputOver() {},
      };
      const writer = live.open('test', port);
      const more = () => {
        while (room > 0 && sent < input.byteLength) {
          const next = input.subarray(sent, sent + Math.min(room, STREAM_WINDOW_BYTES / 2));
          sent += next.byteLength;
          room -= next.byteLength;
          writer.data(next);
        }
        if (sent === input.byteLength) writer.end();
      };
      more();
    });
    expect(lost).toBe(true);
    expect(ran.stdout).toBe(`${digest}  -\n`);
  });
});
