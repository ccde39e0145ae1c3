import { createHash, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { LiveInput, type WriterPort } from '../../../agent/executions/live-input.ts';
import type { RunnerExecution } from '../../../agent/runner/client.ts';
import { STREAM_WINDOW_BYTES } from '../../../shared/limits.ts';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { describePython } from './suite.ts';

const open = { language: 'bash', session: { do: 'open', ttl_seconds: 600 } } as const;
const fed = { language: 'bash', session: { do: 'bash', input: true } } as const;

function writerTo(live: LiveInput) {
  const heard = { consumed: 0, over: '' };
  const port: WriterPort = {
    taking() {},
    consumed: (count) => {
      heard.consumed += count;
    },
    inputOver: ({ why }) => {
      heard.over = why;
    },
  };
  return { heard, input: live.open('test', port) };
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
    const announced =
      Buffer.byteLength(JSON.stringify({ args: [], env: {}, files: [] })) +
      Buffer.byteLength(cmd) +
      Buffer.from(options.stdin ?? '').byteLength;
    const live = new LiveInput(announced);
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

  test('holds no more for a program that reads nothing than one window, and ends all the same', async () => {
    await using sandbox = await kept();
    let heard = { consumed: -1, over: '' };
    const ran = await feed(sandbox, 'sleep 1; head -c 3', {}, (live) => {
      const writer = writerTo(live);
      heard = writer.heard;
      writer.input.data(Buffer.alloc(STREAM_WINDOW_BYTES, 'x'));
    });
    expect(ran.stdout).toBe('xxx');
    expect(ran.result.exit_code).toBe(0);
    // At its end the rest of what the runner holds is let go, which is never the whole of it.
    expect(heard.consumed).toBeLessThan(STREAM_WINDOW_BYTES);
  });

  test('gets every byte once when the stream to its sandbox is replaced under it', async () => {
    await using sandbox = await kept();
    const input = randomBytes(1_000_000);
    const digest = createHash('sha256').update(input).digest('hex');
    let lost = false;
    let sent = 0;
    const ran = await feed(sandbox, 'sha256sum', {}, (live) => {
      const port: WriterPort = {
        taking() {},
        consumed() {
          if (!lost) {
            lost = true;
            sandbox.client.close();
          }
          more();
        },
        inputOver() {},
      };
      const writer = live.open('test', port);
      const more = () => {
        const next = input.subarray(sent, sent + STREAM_WINDOW_BYTES / 2);
        sent += next.byteLength;
        if (next.byteLength > 0) writer.data(next);
        else writer.end();
      };
      more();
      more();
    });
    expect(lost).toBe(true);
    expect(ran.stdout).toBe(`${digest}  -\n`);
  });
});
