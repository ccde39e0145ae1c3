import type { Started } from '../../shared/errors.ts';
import type { StartBody } from '../../shared/messages.ts';
import type { Loan, Settled } from '../pool/lending.ts';
import type { LiveExecution } from './live-execution.ts';

/** One execution, told once its sandbox is settled. Times in ms; null where it did not come so far. */
export type ExecutionReport = {
  readonly start: StartBody;
  /** Outcome, or code of the failure or refusal. */
  readonly outcome: string;
  readonly refused: boolean;
  readonly started: Started;
  readonly sandboxId: string | null;
  readonly settled: Settled | null;
  readonly outputBytes: number;
  /** What went wrong inside, for the log alone. */
  readonly cause?: unknown;
  /** START → ACCEPT, ACCEPT → STARTED, STARTED → EXIT, EXIT → sandbox settled. */
  readonly acceptMs: number | null;
  readonly startMs: number | null;
  readonly runMs: number | null;
  readonly resetMs: number | null;
};

/** Of a START that was not admitted. */
export function refusalReport(start: StartBody, outcome: string, cause: unknown): ExecutionReport {
  return {
    start,
    outcome,
    refused: true,
    started: 'no',
    sandboxId: null,
    settled: null,
    outputBytes: 0,
    cause,
    acceptMs: null,
    startMs: null,
    runMs: null,
    resetMs: null,
  };
}

/** How it ended, in what logs and metrics call it. */
export type ReportedEnd = Pick<ExecutionReport, 'outcome' | 'refused' | 'started'>;

/** Of one that was admitted. `loan` and `settled`: its sandbox, and what became of it, where it had one. */
export function endReport(
  live: LiveExecution,
  end: ReportedEnd,
  loan: Loan | undefined,
  settled: Settled | null,
  endedMs: number,
  settledMs: number,
): ExecutionReport {
  const { start, execution, arrivedMs, acceptedMs } = live;
  const { startedAtMs } = live.record;
  return {
    start,
    ...end,
    sandboxId: loan?.sandboxId ?? null,
    settled,
    outputBytes: execution.outputBytes,
    acceptMs: acceptedMs === null ? null : acceptedMs - arrivedMs,
    startMs: startedAtMs === null || acceptedMs === null ? null : startedAtMs - acceptedMs,
    runMs: startedAtMs === null ? null : endedMs - startedAtMs,
    resetMs: loan ? settledMs - endedMs : null,
  };
}
