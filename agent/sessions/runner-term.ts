import type { ExitBody } from '../../shared/messages.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { SandboxRunner } from '../pool/steady-runner.ts';

/** How often a runner is tried that could not be told. */
const AGAIN_MS = 200;
/** A runner is told this much more than its session has: it ends one by itself only where its agent has forgotten to. */
export const SESSION_TTL_GRACE_SECONDS = 30;

/** Nobody waits for what a runner says to this. */
const SILENT = {
  started() {},
  data() {},
  fileEnd() {},
  inputWindow() {},
  lost() {},
};

export type RunnerTermDeps = {
  clock: Clock;
  runner: SandboxRunner;
  /** The next of its streams. */
  nextStream: () => number;
};

/** When the runner of a session ends it by itself. */
export type RunnerTerm = {
  /** No earlier than that, by the agent's clock: said until it has been heard, one word at a time and the newest. */
  extend(untilMs: number): void;
  stop(): void;
};

export function createRunnerTerm({ clock, runner, nextStream }: RunnerTermDeps): RunnerTerm {
  let untilMs: number | undefined;
  let isAsking = false;
  let cancelAgain: CancelTimer = () => {};

  function again(): void {
    cancelAgain();
    cancelAgain = clock.after(AGAIN_MS, tell);
  }

  function tell(): void {
    if (untilMs === undefined || isAsking) return;
    if (runner.interrupted) {
      again();
      return;
    }
    const toldMs = untilMs;
    isAsking = true;
    const seconds = Math.ceil((toldMs - clock.now()) / 1_000) + SESSION_TTL_GRACE_SECONDS;
    runner.start(nextStream(), extendBody(seconds), { ...SILENT, exit: (exit) => heard(exit, toldMs) });
  }

  function heard({ failure }: ExitBody, toldMs: number): void {
    isAsking = false;
    // It was lost with its stream, or there is much to do. Whatever else the runner has against it, it will have again.
    const isUnheard = failure?.code === 'sandbox_lost' || failure?.code === 'busy';
    if (!isUnheard && untilMs === toldMs) untilMs = undefined;
    if (isUnheard) again();
    else tell();
  }

  return {
    extend(until) {
      untilMs = until;
      tell();
    },
    stop() {
      untilMs = undefined;
      cancelAgain();
    },
  };
}

function extendBody(ttlSeconds: number) {
  return {
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
}
