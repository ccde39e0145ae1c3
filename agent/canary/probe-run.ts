import { readdirSync, readFileSync } from 'node:fs';
import { Failure } from '../../shared/errors.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { ExitBody } from '../../shared/messages.ts';
import { mbToBytes, type Template } from '../../shared/template.ts';
import type { SandboxHandlers } from '../pool/steady-runner.ts';
import type { RunnerStartBody } from '../runner/messages.ts';
import type { RunnerExecution } from '../runner/runner-execution.ts';
import type { CanaryTargets } from './targets.ts';

/** How long a probe may run, and how long an agent listens for its end. A peer runs for as long as its round. */
export const PROBE_TIMEOUT_MS = 20_000;
export const PEER_TIMEOUT_MS = 120_000;
/** A connection that has not come in this time does not come. */
export const REACH_WAIT_MS = 1_500;
const MAX_OUTPUT_BYTES = 32_768;
const SOURCES = new URL('./probe/', import.meta.url);
const MAIN = 'main.py';

/** What a probe is asked, as probe/main.py reads it. */
export type ProbeRequest = {
  readonly mode: 'sandbox' | 'network' | 'peer' | 'limits';
  readonly targets: CanaryTargets;
  /** What another sandbox said of where it can be met. */
  readonly peer: object | null;
  readonly mark: string;
  readonly wait_ms: number;
};

/** A runner, as a pool lends it or as it was just connected to. */
export type ProbeRunner = {
  start(streamId: number, body: RunnerStartBody, handlers: SandboxHandlers): RunnerExecution;
};

export type ProbeRun = {
  /** Resolves with the first line that it prints; rejects with a Failure where it ends or is lost without one. */
  readonly answer: Promise<string>;
  /** Resolves when it is over, however. */
  readonly over: Promise<void>;
};

/** The input of every probe but for its request, and the sizes that START names. */
type Program = { manifest: Buffer; code: Buffer; files: Buffer };
let program: Program | undefined;

function readProgram(): Program {
  const names = readdirSync(SOURCES).filter((name) => name.endsWith('.py') && name !== MAIN);
  const modules = names.sort().map((path) => ({ path, content: readFileSync(new URL(path, SOURCES)) }));
  const files = modules.map(({ path, content }) => ({ path, size: content.byteLength }));
  return {
    manifest: Buffer.from(JSON.stringify({ args: [], env: {}, files })),
    code: readFileSync(new URL(MAIN, SOURCES)),
    files: Buffer.concat(modules.map(({ content }) => content)),
  };
}

/** Runs probe/ as an ordinary execution: Python, the template's own limits, nothing collected. */
export function startProbe(
  runner: ProbeRunner,
  streamId: number,
  { template, request }: { template: Template; request: ProbeRequest },
): ProbeRun {
  program ??= readProgram();
  const { manifest, code, files } = program;
  const stdin = Buffer.from(JSON.stringify(request));
  const answer = Promise.withResolvers<string>();
  const over = Promise.withResolvers<void>();
  let text = '';
  let words = '';
  let received = 0;
  const end = (detail: string, cause?: unknown) => {
    const said = words === '' ? cause : new Error(words.slice(-512));
    answer.reject(new Failure('isolation_failed', detail, { cause: said }));
    over.resolve();
  };
  const handlers: SandboxHandlers = {
    started() {},
    data(channel, _offset, bytes) {
      received += bytes.byteLength;
      if (channel === 1) text += Buffer.from(bytes).toString('latin1');
      else if (channel === 2) words += Buffer.from(bytes).toString('latin1');
      const at = text.indexOf('\n');
      if (at >= 0) answer.resolve(Buffer.from(text.slice(0, at), 'latin1').toString('utf8'));
      execution.window(received + STREAM_WINDOW_BYTES);
    },
    fileEnd() {},
    inputWindow() {},
    exit: (exit) => end(sentenceOf(exit)),
    lost: (reason) => end('The sandbox was lost while the canary ran.', reason),
  };
  answer.promise.catch(() => {});
  const execution = runner.start(streamId, startBody(template, request, program, stdin.byteLength), handlers);
  for (const bytes of [manifest, code, stdin, files]) execution.write(bytes);
  return { answer: answer.promise, over: over.promise };
}

function startBody(
  { resources }: Template,
  { mode }: ProbeRequest,
  { manifest, code, files }: Program,
  stdin: number,
): RunnerStartBody {
  return {
    language: 'python',
    last_line_interactive: false,
    traceparent: null,
    sizes: { manifest: manifest.byteLength, code: code.byteLength, stdin, files: files.byteLength },
    limits: {
      timeout_ms: mode === 'peer' ? PEER_TIMEOUT_MS : PROBE_TIMEOUT_MS,
      max_output_bytes: MAX_OUTPUT_BYTES,
      memory_bytes: mbToBytes(resources.memory_mb),
      cpu_seconds: resources.cpu_seconds,
      output_limit_bytes: null,
    },
    collect: false,
  };
}

function sentenceOf({ result, failure }: ExitBody): string {
  if (failure) return `The canary could not be run (${failure.code}).`;
  return result.outcome === 'exited'
    ? `The canary ended with ${result.exit_code} and no report.`
    : `The canary came to no end of its own (${result.outcome}).`;
}
