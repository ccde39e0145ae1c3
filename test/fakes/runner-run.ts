import { createHash } from 'node:crypto';
import type { RunnerClient } from '../../agent/runner/client.ts';
import type { Checkpoint, ExecutionHandlers } from '../../agent/runner/execution-stream.ts';
import type { RunnerStartBody } from '../../agent/runner/messages.ts';
import type { RunnerExecution } from '../../agent/runner/runner-execution.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { ExecutionResult, ExitBody } from '../../shared/messages.ts';

const MIB = 1_048_576;

export type RunOptions = {
  language?: RunnerStartBody['language'];
  lastLine?: boolean;
  stdin?: string | Uint8Array | null;
  args?: string[];
  env?: Record<string, string>;
  files?: Record<string, string | Uint8Array>;
  traceparent?: string | null;
  requestId?: string;
  collect?: boolean;
  timeoutMs?: number;
  maxOutputBytes?: number;
  memoryBytes?: number;
  cpuSeconds?: number;
  outputLimitBytes?: number | null;
  session?: RunnerStartBody['session'];
  rich?: boolean;
  /** `all` (the default) grants output as it comes; a number is all that is ever granted. */
  grant?: 'all' | number;
  onStarted?: (execution: RunnerExecution) => void;
  /** After each piece of output. */
  onData?: (execution: RunnerExecution, ran: Ran) => void;
  onExecution?: (execution: RunnerExecution) => void;
  /** Of an execution that is fed while it runs. */
  onInputWindow?: (limit: number) => void;
  onInputResumed?: (received: number) => void;
  /** Instead of failing when the stream is lost: goes on where the execution is taken over. */
  onLost?: (
    checkpoint: Checkpoint,
    handlers: ExecutionHandlers,
  ) => RunnerExecution | Promise<RunnerExecution>;
};

/** What came back. */
export type Ran = {
  exit: ExitBody;
  /** Of an execution that has a result; throws with the failure's words for one that has none. */
  readonly result: ExecutionResult;
  stdout: string;
  stderr: string;
  stdoutBytes: Buffer;
  stderrBytes: Buffer;
  /** Path → content, each checked against the digest that came with it. */
  files: Map<string, Buffer>;
  started: boolean;
  /** Bytes so far. */
  received: Record<1 | 2 | 3, number>;
};

/** One execution from START to EXIT. Rejects with the reason when the stream is lost. */
export function runOn(
  client: RunnerClient,
  streamId: number,
  code: string | Uint8Array,
  options: RunOptions,
): Promise<Ran> {
  const files = Object.entries(options.files ?? {}).map(([path, content]) => ({
    path,
    content: Buffer.from(content),
  }));
  const manifest = Buffer.from(
    JSON.stringify({
      args: options.args ?? [],
      env: options.env ?? {},
      files: files.map(({ path, content }) => ({ path, size: content.byteLength })),
    }),
  );
  const stdin = options.stdin == null ? null : Buffer.from(options.stdin);
  const codeBytes = Buffer.from(code);
  const body: RunnerStartBody = {
    language: options.language ?? 'python',
    last_line_interactive: options.lastLine ?? true,
    traceparent: options.traceparent ?? null,
    ...(options.requestId !== undefined && { request_id: options.requestId }),
    sizes: {
      manifest: manifest.byteLength,
      code: codeBytes.byteLength,
      stdin: stdin === null ? null : stdin.byteLength,
      files: files.reduce((sum, { content }) => sum + content.byteLength, 0),
    },
    limits: {
      timeout_ms: options.timeoutMs ?? 20_000,
      max_output_bytes: options.maxOutputBytes ?? 1_000_000,
      memory_bytes: options.memoryBytes ?? 256 * MIB,
      cpu_seconds: options.cpuSeconds ?? 20,
      output_limit_bytes: options.outputLimitBytes ?? null,
    },
    collect: options.collect ?? options.session === undefined,
    ...(options.session && { session: options.session }),
    ...(options.rich && { rich: true }),
  };
  const input = Buffer.concat([
    manifest,
    codeBytes,
    stdin ?? Buffer.alloc(0),
    ...files.map((file) => file.content),
  ]);
  const output: Record<1 | 2 | 3, Buffer[]> = { 1: [], 2: [], 3: [] };
  let taken = 0;
  let written = 0;

  const ran: Ran = {
    exit: { result: null, failure: { code: 'none', detail: '', started: 'unknown' } },
    get result() {
      if (ran.exit.result) return ran.exit.result;
      throw new Error(
        `${ran.exit.failure.code}: ${ran.exit.failure.detail} (started ${ran.exit.failure.started})`,
      );
    },
    get stdoutBytes() {
      return Buffer.concat(output[1]);
    },
    get stderrBytes() {
      return Buffer.concat(output[2]);
    },
    get stdout() {
      return ran.stdoutBytes.toString();
    },
    get stderr() {
      return ran.stderrBytes.toString();
    },
    files: new Map(),
    started: false,
    received: { 1: 0, 2: 0, 3: 0 },
  };

  return new Promise((resolve, reject) => {
    const push = (limit: number) => {
      const next = input.subarray(written, limit);
      written += next.byteLength;
      if (next.byteLength > 0) execution.write(next);
    };
    const handlers: ExecutionHandlers = {
      started() {
        ran.started = true;
        options.onStarted?.(execution);
      },
      data(channel, _offset, bytes) {
        output[channel].push(Buffer.from(bytes));
        ran.received[channel] += bytes.byteLength;
        taken += bytes.byteLength;
        if ((options.grant ?? 'all') === 'all') execution.window(taken + STREAM_WINDOW_BYTES);
        options.onData?.(execution, ran);
      },
      fileEnd({ path, sha256 }) {
        const content = Buffer.concat(output[3]);
        output[3] = [];
        if (ran.files.has(path)) reject(new Error(`${JSON.stringify(path)} came twice`));
        if (createHash('sha256').update(content).digest('hex') !== sha256)
          reject(new Error(`${path}: wrong digest`));
        ran.files.set(path, content);
      },
      exit(exit) {
        ran.exit = exit;
        resolve(ran);
      },
      inputWindow: (limit) => {
        push(limit);
        options.onInputWindow?.(limit);
      },
      inputResumed: (received) => options.onInputResumed?.(received),
      lost(reason) {
        if (!options.onLost) return reject(reason);
        const goOn = (next: RunnerExecution) => {
          execution = next;
        };
        const next = options.onLost(execution.checkpoint(), handlers);
        if (next instanceof Promise) next.then(goOn, reject);
        else goOn(next);
      },
    };
    let execution = client.start(streamId, body, handlers);
    if (typeof options.grant === 'number') execution.window(options.grant);
    push(STREAM_WINDOW_BYTES);
    options.onExecution?.(execution);
  });
}
