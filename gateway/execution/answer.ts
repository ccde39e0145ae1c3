import type { ExecuteResponse, ResultEvent } from '../../shared/api.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import { CollectedBytes } from './collected-bytes.ts';
import type { OutputSource } from './output-reader.ts';
import { outputText } from './output-text.ts';
import type { Ending } from './run-ending.ts';

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
    ...ending.results,
  };
}

/**
 * Collects output, which its source bounds, to its end. Rejects with what ended it otherwise. Where bytes are gone the
 * text ends before them, and says so as one that was cut at the cap does.
 */
export function collectAnswer(source: OutputSource, maxOutputBytes: number): Promise<ExecuteResponse> {
  return collectAs(source, maxOutputBytes, resultOf);
}

/** The same with another word on the end. */
export async function collectAs<Result extends object>(
  source: OutputSource,
  maxOutputBytes: number,
  describe: (ending: Ending) => Result,
): Promise<{ stdout: string; stderr: string } & Result> {
  const stdout = new CollectedBytes();
  const stderr = new CollectedBytes();
  const hasGap = new Set<number>();
  for (;;) {
    const taken = await source.next();
    if (taken.type === 'output') {
      if (hasGap.has(taken.channel)) continue;
      source.keep(taken.bytes.byteLength);
      (taken.channel === CHANNEL.stdout ? stdout : stderr).push(taken.bytes);
    } else if (taken.type === 'gap') hasGap.add(taken.channel);
    else if (taken.type === 'failed') throw taken.failure;
    else if (taken.type === 'end') {
      const stdoutTruncated = taken.ending.stdoutTruncated || hasGap.has(CHANNEL.stdout);
      const stderrTruncated = taken.ending.stderrTruncated || hasGap.has(CHANNEL.stderr);
      return {
        stdout: outputText(stdout.bytes, stdoutTruncated, maxOutputBytes),
        stderr: outputText(stderr.bytes, stderrTruncated, maxOutputBytes),
        ...describe({ ...taken.ending, stdoutTruncated, stderrTruncated }),
      };
    }
  }
}
