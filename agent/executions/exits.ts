import { fitSentence } from '../../shared/announcement.ts';
import { Failure, isErrorCode, type Started } from '../../shared/errors.ts';
import { ORPHAN_MS } from '../../shared/limits.ts';
import type { ExitBody } from '../../shared/messages.ts';

const SIGKILL = 9;
/** What a runner says of a request, and nothing of the sandbox. */
const OF_THE_REQUEST: ReadonlySet<string> = new Set([
  'stage_failed',
  'too_large',
  'conflict',
  'cancelled',
  'busy',
]);

/** EXIT of an execution that has no result. `started` is what the agent knows, whatever the failure says. */
export function failureExit(failure: Failure, started: Started): ExitBody {
  const detail = fitSentence(failure.detail);
  return { result: null, failure: { code: failure.code, detail, started } };
}

/** Whether a runner's failure says nothing against its sandbox. */
export function isOfRequest({ code }: NonNullable<ExitBody['failure']>): boolean {
  return OF_THE_REQUEST.has(code);
}

/** What a runner said of its own failure. */
export function failureOf({ code, detail }: NonNullable<ExitBody['failure']>): Failure {
  return new Failure(isErrorCode(code) ? code : 'runner_error', detail);
}

/** Of an execution that was killed since its links stayed away: its caller has cancelled nothing. */
export function orphansExit(exit: ExitBody): ExitBody {
  if (exit.result?.outcome !== 'cancelled') return exit;
  const failure = new Failure(
    'agent_lost',
    `No link to the gateway came back within ${ORPHAN_MS / 1_000} s, so that what ran was ended.`,
  );
  return failureExit(failure, 'yes');
}

/**
 * EXIT of an execution whose runner fell silent past its timeout. Its counts are those of what came; nobody measured
 * what it used.
 */
export function silentTimeoutExit(durationMs: number, stdoutBytes: number, stderrBytes: number): ExitBody {
  const how = { outcome: 'timed_out', exit_code: null, signal: null } as const;
  return unmeasuredExit(how, durationMs, stdoutBytes, stderrBytes);
}

/**
 * EXIT of an execution whose whole sandbox was killed for its memory, the runner too. Its last output may have died with
 * the runner, and so both streams count as cut.
 */
export function memoryLimitExit(durationMs: number, stdoutBytes: number, stderrBytes: number): ExitBody {
  const how = {
    outcome: 'memory_limit',
    exit_code: 128 + SIGKILL,
    signal: SIGKILL,
    stdout_truncated: true,
    stderr_truncated: true,
  } as const;
  return unmeasuredExit(how, durationMs, stdoutBytes, stderrBytes);
}

type Result = NonNullable<ExitBody['result']>;

function unmeasuredExit(
  how: Pick<Result, 'outcome' | 'exit_code' | 'signal'> & Partial<Result>,
  durationMs: number,
  stdoutBytes: number,
  stderrBytes: number,
): ExitBody {
  return {
    result: {
      timed_out: how.outcome === 'timed_out',
      duration_ms: Math.round(durationMs),
      cpu_ms: 0,
      peak_memory_bytes: 0,
      stdout_bytes: stdoutBytes,
      stderr_bytes: stderrBytes,
      stdout_truncated: false,
      stderr_truncated: false,
      files_omitted: [],
      files_omitted_count: 0,
      ...how,
    },
    failure: null,
  };
}

/** A runner's faults are its own: the caller's peer broke nothing. */
export function toCaller(reason: Failure): Failure {
  if (reason.code !== 'protocol_error' && reason.code !== 'too_large') return reason;
  return new Failure('runner_error', 'The runner broke its protocol; its sandbox was discarded.', {
    cause: reason,
  });
}

/** What was dropped after a cancellation is said: fewer bytes came than the program wrote. */
export function withDropped(exit: ExitBody): ExitBody {
  if (!exit.result) return exit;
  return { result: { ...exit.result, stdout_truncated: true, stderr_truncated: true }, failure: null };
}

/** So many files more are gone than it says: there was no room to keep them. */
export function withoutFiles(exit: ExitBody, count: number): ExitBody {
  if (!exit.result) return exit;
  const files_omitted_count = exit.result.files_omitted_count + count;
  return { result: { ...exit.result, files_omitted_count }, failure: null };
}

/** How many files are gone stays, and not their names. */
export function withoutNames(exit: ExitBody): ExitBody {
  if (!exit.result || exit.result.files_omitted.length === 0) return exit;
  return { result: { ...exit.result, files_omitted: [] }, failure: null };
}

/** One word for logs and metrics: the outcome, or the code of the failure. A sandbox chooses none of them. */
export function outcomeOf(exit: ExitBody): string {
  return exit.result ? exit.result.outcome : failureOf(exit.failure).code;
}
