import type * as z from 'zod';
import type { executionStatus } from '../../shared/api.ts';
import type { StatusAnswer } from '../link/status-asks.ts';

type Described = z.infer<typeof executionStatus>;

/** An agent's answer as the API tells it; null where the agent does not know the execution. */
export function describeExecution(
  executionId: string,
  cluster: string,
  { state, record }: StatusAnswer,
  nowMs: number,
): Described | null {
  if (state === 'unknown' || state === 'fenced') return null;
  const at = (msAgo: number | null | undefined) =>
    typeof msAgo === 'number' ? (nowMs - msAgo) / 1000 : null;
  const result = record?.exit?.result;
  return {
    execution_id: executionId,
    cluster,
    state,
    started_at: at(record?.started_at_ms_ago),
    ended_at: at(record?.ended_at_ms_ago),
    result: result
      ? {
          outcome: result.outcome,
          exit_code: result.exit_code,
          signal: result.signal,
          timed_out: result.timed_out,
          duration_ms: result.duration_ms,
          cpu_ms: result.cpu_ms,
          peak_memory_bytes: result.peak_memory_bytes,
          stdout_bytes: result.stdout_bytes,
          stderr_bytes: result.stderr_bytes,
        }
      : null,
    failure: record?.exit?.failure ?? null,
  };
}
