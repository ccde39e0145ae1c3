import type { ResultEvent } from '../../shared/api.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import { CollectedBytes } from './collected-bytes.ts';
import type { Ending } from './ending.ts';
import type { OutputSource } from './output-reader.ts';
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
    ...ending.results,
  };
}

/**
 * Collects output to its end, `maxOutputBytes` of stdout and of stderr each. Rejects with what ended it otherwise. Where
 * bytes are gone, or are more, the text ends before them, and says so as one that was cut at the cap does.
 */
export async function collectAs<Result extends object>(
  source: OutputSource,
  maxOutputBytes: number,
  describe: (ending: Ending) => Result,
): Promise<{ stdout: string; stderr: string } & Result> {
  const stdout = new CollectedBytes();
  const stderr = new CollectedBytes();
  const isCut = new Set<number>();
  for (;;) {
    const taken = await source.next();
    if (taken.type === 'output') {
      const { channel, bytes } = taken;
      if (isCut.has(channel)) continue;
      const collected = channel === CHANNEL.stdout ? stdout : stderr;
      const room = maxOutputBytes - collected.bytes.byteLength;
      // To whoever reads again the agent says how much there may be.
      if (bytes.byteLength > room) isCut.add(channel);
      const kept = bytes.subarray(0, room);
      source.keep(kept.byteLength);
      collected.push(kept);
    } else if (taken.type === 'gap') isCut.add(taken.channel);
    else if (taken.type === 'failed') throw taken.failure;
    else if (taken.type === 'end') {
      const stdoutTruncated = taken.ending.stdoutTruncated || isCut.has(CHANNEL.stdout);
      const stderrTruncated = taken.ending.stderrTruncated || isCut.has(CHANNEL.stderr);
      return {
        stdout: outputText(stdout.bytes, stdoutTruncated, maxOutputBytes),
        stderr: outputText(stderr.bytes, stderrTruncated, maxOutputBytes),
        ...describe({ ...taken.ending, stdoutTruncated, stderrTruncated }),
      };
    }
  }
}
