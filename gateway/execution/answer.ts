import type { ExecuteResponse, ResultEvent } from '../../shared/api.ts';
import { CHANNEL } from '../../shared/messages.ts';
import { CollectedBytes } from './collected-bytes.ts';
import type { Ending, ExecutionRun } from './execution-run.ts';
import { outputText } from './output-text.ts';

/** What both answers say of the end. */
export function resultOf(ending: Ending): ResultEvent {
  const { result } = ending;
  return {
    exit_code: result.exit_code,
    timed_out: result.timed_out,
    duration_ms: result.duration_ms,
    files: [...ending.files],
    execution_id: ending.executionId,
    cluster: ending.cluster,
    outcome: result.outcome,
    signal: result.signal,
    stdout_bytes: result.stdout_bytes,
    stderr_bytes: result.stderr_bytes,
    stdout_truncated: ending.stdoutTruncated,
    stderr_truncated: ending.stderrTruncated,
    queue_ms: ending.queueMs,
    cpu_ms: result.cpu_ms,
    peak_memory_bytes: result.peak_memory_bytes,
    files_omitted: [...ending.filesOmitted],
    files_omitted_count: ending.filesOmittedCount,
  };
}

/** Collects a run's output, which the run bounds, to its end. Rejects with what ended it otherwise. */
export function collectAnswer(run: ExecutionRun, maxOutputBytes: number): Promise<ExecuteResponse> {
  return collectAs(run, maxOutputBytes, resultOf);
}

/** The same with another word on the end. */
export async function collectAs<Result extends object>(
  run: ExecutionRun,
  maxOutputBytes: number,
  describe: (ending: Ending) => Result,
): Promise<{ stdout: string; stderr: string } & Result> {
  const stdout = new CollectedBytes();
  const stderr = new CollectedBytes();
  for (;;) {
    const taken = await run.next();
    if (taken.type === 'output') {
      run.keep(taken.bytes.byteLength);
      (taken.channel === CHANNEL.stdout ? stdout : stderr).push(taken.bytes);
    } else if (taken.type === 'failed') throw taken.failure;
    else if (taken.type === 'end') {
      const { ending } = taken;
      return {
        stdout: outputText(stdout.bytes, ending.stdoutTruncated, maxOutputBytes),
        stderr: outputText(stderr.bytes, ending.stderrTruncated, maxOutputBytes),
        ...describe(ending),
      };
    }
  }
}
