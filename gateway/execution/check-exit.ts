import type { ExecutionResult } from '../../shared/messages.ts';

/** Bytes that came on a stream's channels, past the cap included. */
export type ReceivedBytes = { stdout: number; stderr: number };

/** What is wrong with a result, judged by itself and by what came; null where it holds together. */
export function exitFault(result: ExecutionResult, received: ReceivedBytes): string | null {
  const { outcome, exit_code, signal, timed_out } = result;
  if (timed_out !== (outcome === 'timed_out')) return 'timed_out and outcome differ';
  const codeless = outcome === 'timed_out' || outcome === 'cancelled';
  if (codeless !== (exit_code === null)) return 'exit_code does not fit the outcome';
  if (outcome === 'signaled' && signal === null) return 'a signal without a number';
  if (outcome === 'exited' && signal !== null) return 'an exit with a signal';
  if (result.stdout_bytes < received.stdout || result.stderr_bytes < received.stderr)
    return 'fewer bytes counted than sent';
  return null;
}
