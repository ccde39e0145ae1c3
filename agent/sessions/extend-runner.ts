import type { SandboxRunner } from '../pool/steady-runner.ts';

/** Nobody waits for what a runner says to this. */
const SILENT = {
  started() {},
  data() {},
  fileEnd() {},
  inputWindow() {},
  exit() {},
  lost() {},
};

/** Has the runner of a session end it by itself so long from now, and no earlier. */
export function extendRunner(runner: SandboxRunner, streamId: number, ttlSeconds: number): void {
  const body = {
    language: 'bash',
    last_line_interactive: false,
    traceparent: null,
    sizes: { manifest: 0, code: 0, stdin: null, files: 0 },
    limits: {
      timeout_ms: 1_000,
      max_output_bytes: 0,
      memory_bytes: 1,
      cpu_seconds: 1,
      output_limit_bytes: null,
    },
    collect: false,
    session: { do: 'extend', ttl_seconds: ttlSeconds },
  } as const;
  runner.start(streamId, body, SILENT);
}
