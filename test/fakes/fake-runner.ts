import { type Duplex, duplexPair } from 'node:stream';
import { createFrameReader, createFrameWriter } from '../../agent/runner/frame-stream.ts';
import type { Ready, RunnerStartBody } from '../../agent/runner/messages.ts';
import type { Frame } from '../../shared/frame.ts';
import { TYPE } from '../../shared/frame-type.ts';
import type { ExecutionResult, ExitBody, FileEnd } from '../../shared/messages.ts';

/** One execution as a fake runner sees it: the test says what happens. */
export type FakeRun = {
  readonly body: RunnerStartBody;
  readonly input: Buffer;
  readonly inputComplete: boolean;
  /** Output that may be sent, in all. */
  readonly limit: number;
  readonly cancelled: string | undefined;
  /** What an EXIT must count. */
  readonly counted: { stdout_bytes: number; stderr_bytes: number };
  /** Acknowledges input that came: its sender may send as much more. */
  takeInput(): void;
  started(): void;
  output(channel: 1 | 2 | 3, bytes: Uint8Array | string): void;
  file(file: FileEnd): void;
  exit(body: ExitBody): void;
};

export type FakeRunner = {
  /** The agent's end of the stream. */
  readonly stream: Duplex;
  readonly runs: FakeRun[];
  /** What it is told of executions that began over another stream, in order. */
  readonly retold: { stream: number; type: number; body: unknown }[];
  /** What the sandbox answers; false: nothing. */
  answers: { ping: boolean; reset: boolean | 'dirty'; ready: Partial<Ready> | false };
  /** Called for each START once its input is complete. */
  onRun: (run: FakeRun) => void;
  /** Called for each CANCEL. */
  onCancel: (run: FakeRun) => void;
  resets: number;
  die(): void;
};

const READY: Ready = {
  ok: true,
  version: 'fake',
  python: '3.13.0',
  arch: 'x86_64',
  epoch: 1,
  features: { seccomp: true, landlock_abi: 6, namespaces: true, cgroup: null },
  missing: [],
  languages: { python: '3.13.0', bash: '5.2' },
  preloaded: [],
  preload_failed: [],
  base_memory_bytes: 1,
  running: [],
};

/** How a run ended, with members to change. */
export function resultOf(changes: Partial<ExecutionResult> = {}): ExitBody {
  const result: ExecutionResult = {
    outcome: 'exited',
    exit_code: 0,
    signal: null,
    timed_out: false,
    duration_ms: 1,
    cpu_ms: 1,
    peak_memory_bytes: 1,
    stdout_bytes: 0,
    stderr_bytes: 0,
    stdout_truncated: false,
    stderr_truncated: false,
    files_omitted: [],
    files_omitted_count: 0,
    ...changes,
  };
  return { result, failure: null };
}

/** Prints its code and exits with 0. */
export function echo(run: FakeRun): void {
  const { manifest, code } = run.body.sizes;
  const text = run.input.subarray(manifest, manifest + code);
  run.started();
  if (text.byteLength > 0) run.output(1, text);
  run.exit(resultOf({ stdout_bytes: text.byteLength }));
}

/** Speaks agent/runner/protocol.md over a pair of streams, without a process. */
export function createFakeRunner(
  options: { onRun?: (run: FakeRun) => void; epoch?: number } = {},
): FakeRunner {
  const { epoch = 1 } = options;
  const [theirs, ours] = duplexPair();
  const writer = createFrameWriter(epoch, ours);
  const runs = new Map<number, FakeRun & { receive(frame: Frame): void }>();
  let counter = 0;
  ours.on('error', () => {});
  theirs.on('error', () => {});

  function control(type: number, stream: number, body: unknown): void {
    counter += 1;
    const bytes = Buffer.from(JSON.stringify(body));
    writer.send({ type, channel: 0, stream, sequence: counter, body: bytes });
  }

  const reader = createFrameReader(epoch, (frame) => {
    const body = frame.type === TYPE.DATA ? undefined : JSON.parse(Buffer.from(frame.body).toString());
    const { answers } = runner;
    if (frame.type === TYPE.ATTACH_RUNNER && answers.ready)
      control(TYPE.READY, 0, { ...READY, epoch, ...answers.ready });
    else if (frame.type === TYPE.PING && answers.ping) control(TYPE.PONG, 0, { id: body.id, processes: 2 });
    else if (frame.type === TYPE.RESET) {
      runner.resets += 1;
      if (answers.reset !== false)
        control(TYPE.RESET_DONE, 0, {
          ok: answers.reset === true,
          leftovers: answers.reset === true ? [] : ['/tmp/x'],
        });
    } else if (frame.type === TYPE.START) {
      const run = createFakeRun(frame.stream, body, control, writer.send, runner);
      runs.set(frame.stream, run);
      runner.runs.push(run);
      if (run.inputComplete) runner.onRun(run);
    } else if (runs.has(frame.stream)) runs.get(frame.stream)?.receive(frame);
    else if (body !== undefined) runner.retold.push({ stream: frame.stream, type: frame.type, body });
    return undefined;
  });
  ours.on('data', (chunk: Uint8Array) => {
    const fault = reader.push(chunk);
    if (fault) throw new Error(`the agent sent what a runner refuses: ${fault.detail}`);
  });

  const runner: FakeRunner = {
    stream: theirs,
    runs: [],
    retold: [],
    answers: { ping: true, reset: true, ready: {} },
    onRun: options.onRun ?? echo,
    onCancel: (run) =>
      run.exit(
        run.inputComplete
          ? resultOf({ outcome: 'cancelled', exit_code: null, ...run.counted })
          : { result: null, failure: { code: 'cancelled', detail: 'Cancelled.', started: 'no' } },
      ),
    resets: 0,
    die: () => void ours.destroy(),
  };
  return runner;
}

function createFakeRun(
  stream: number,
  body: RunnerStartBody,
  control: (type: number, stream: number, body: unknown) => void,
  send: (frame: Frame) => void,
  runner: FakeRunner,
): FakeRun & { receive(frame: Frame): void } {
  const { manifest, code, stdin, files } = body.sizes;
  const total = manifest + code + (stdin ?? 0) + files;
  const chunks: Uint8Array[] = [];
  const offsets = [0, 0, 0, 0];
  let received = 0;
  let limit = 262_144;
  let cancelled: string | undefined;
  const run: FakeRun & { receive(frame: Frame): void } = {
    body,
    get input() {
      return Buffer.concat(chunks);
    },
    get inputComplete() {
      return received === total;
    },
    get limit() {
      return limit;
    },
    get cancelled() {
      return cancelled;
    },
    get counted() {
      return { stdout_bytes: offsets[1] ?? 0, stderr_bytes: offsets[2] ?? 0 };
    },
    takeInput: () => control(TYPE.WINDOW, stream, { limit: received + 262_144 }),
    started: () => control(TYPE.STARTED, stream, {}),
    output(channel, output) {
      const bytes = typeof output === 'string' ? Buffer.from(output) : output;
      for (let from = 0; from < bytes.byteLength; from += 32_768) {
        const part = bytes.subarray(from, from + 32_768);
        send({ type: TYPE.DATA, channel, stream, sequence: offsets[channel] ?? 0, body: part });
        offsets[channel] = (offsets[channel] ?? 0) + part.byteLength;
      }
    },
    file(file) {
      const bytes = Buffer.from(JSON.stringify(file));
      send({ type: TYPE.END, channel: 3, stream, sequence: offsets[3] ?? 0, body: bytes });
    },
    exit: (exit) => control(TYPE.EXIT, stream, exit),
    receive(frame) {
      if (frame.type === TYPE.DATA) {
        // The chunk belongs to the stream: what is kept is copied.
        chunks.push(Buffer.from(frame.body));
        received += frame.body.byteLength;
        if (received === total) runner.onRun(run);
      } else if (frame.type === TYPE.WINDOW) {
        limit = JSON.parse(Buffer.from(frame.body).toString()).limit;
      } else if (frame.type === TYPE.CANCEL) {
        cancelled = JSON.parse(Buffer.from(frame.body).toString()).reason;
        runner.onCancel(run);
      }
    },
  };
  return run;
}
