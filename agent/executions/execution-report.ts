import type { Started } from '../../shared/errors.ts';
import type { StartBody } from '../../shared/messages.ts';
import type { Settled } from '../pool/lending.ts';

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
    ...phasesOf({ arrivedMs: 0, acceptedMs: null, startedMs: null, endedMs: 0, settledMs: null }),
  };
}

/** When one execution came to each of its phases; null where it did not. */
export type PhaseTimes = {
  arrivedMs: number;
  acceptedMs: number | null;
  startedMs: number | null;
  endedMs: number;
  settledMs: number | null;
};

export function phasesOf({
  arrivedMs,
  acceptedMs,
  startedMs,
  endedMs,
  settledMs,
}: PhaseTimes): Pick<ExecutionReport, 'acceptMs' | 'startMs' | 'runMs' | 'resetMs'> {
  return {
    acceptMs: acceptedMs === null ? null : acceptedMs - arrivedMs,
    startMs: startedMs === null || acceptedMs === null ? null : startedMs - acceptedMs,
    runMs: startedMs === null ? null : endedMs - startedMs,
    resetMs: settledMs === null ? null : settledMs - endedMs,
  };
}
