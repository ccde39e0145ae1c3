import type * as z from 'zod';
import type { executionStatus } from '../../shared/api.ts';
import type { StatusAnswer } from '../link/status-asks.ts';
import { failureCode } from './agent-codes.ts';

type Described = z.infer<typeof executionStatus>;

/**
 * An agent's answer as the API tells it; null where the agent does not know the execution. `beganMs`: when what has this
 * name began, by how long ago that was.
 */
export function describeExecution(
  executionId: string,
  cluster: string,
  { state, record }: StatusAnswer,
  beganMs: (name: string, msAgo: number) => number,
): Described | null {
  if (state === 'unknown' || state === 'fenced') return null;
  const { started_at, ended_at } = timesOf(record, (msAgo) => beganMs(executionId, msAgo));
  const { result, failure } = record?.exit ?? {};
  return {
    execution_id: executionId,
    cluster,
    state,
    started_at,
    ended_at,
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
    failure: failure ? { ...failure, code: failureCode(failure.code) } : null,
  };
}

/** Both counted from the acceptance: that is the same in every answer, and so is what lies between. */
function timesOf(
  record: StatusAnswer['record'],
  beganMs: (msAgo: number) => number,
): Pick<Described, 'started_at' | 'ended_at'> {
  if (!record) return { started_at: null, ended_at: null };
  const { accepted_at_ms_ago, started_at_ms_ago, ended_at_ms_ago } = record;
  const acceptedMs = beganMs(accepted_at_ms_ago);
  const at = (msAgo: number | null) =>
    msAgo === null ? null : (acceptedMs + accepted_at_ms_ago - msAgo) / 1_000;
  return { started_at: at(started_at_ms_ago), ended_at: at(ended_at_ms_ago) };
}
