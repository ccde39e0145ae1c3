import { type ErrorCode, Failure } from '../../shared/errors.ts';
import { RUNNER_GRACE_MS } from '../../shared/limits.ts';

/** A runner that has all its input and says nothing for so long is given up. */
export const STAGE_SILENCE_MS = 10_000;
/** The same where a session opens: many do so at once, on nodes that make sandboxes for others meanwhile. */
export const OPEN_SILENCE_MS = 30_000;
/** A gateway that sends no more of the input it announced for so long loses the execution. */
export const INPUT_SILENCE_MS = 30_000;

/** An execution whose runner is looked after. */
export type SilentExecution = {
  /** The runner has been given its START; it has said that the program runs; it was told to end it. */
  readonly stage: 'staging' | 'started' | 'cancelled';
  readonly silentMs: number;
  /** How long it may stage without a word, once it has its input. */
  readonly allowedMs: number;
  readonly hasInput: boolean;
  /** The runner may send nothing. */
  readonly isHeld: boolean;
  /** Its output is thrown away. */
  readonly isDropped: boolean;
  readonly sendsFiles: boolean;
  /** The stream to its sandbox is being replaced. */
  readonly interrupted: boolean;
};

/**
 * What is to become of an execution whose runner says nothing. `patience`: wait, and this is no silence of its own.
 * `drop`: nobody takes its output any more, and its end cannot come before that is gone.
 */
export type SilenceVerdict =
  | { readonly do: 'wait'; readonly delayMs: number }
  | { readonly do: 'patience' }
  | { readonly do: 'drop' }
  | { readonly do: 'kill'; readonly failure: Failure }
  | { readonly do: 'time_out' };

const PATIENCE: SilenceVerdict = { do: 'patience' };
const DROP: SilenceVerdict = { do: 'drop' };

export function judgeSilence(execution: SilentExecution): SilenceVerdict {
  if (execution.stage === 'cancelled') return judgeCancelled(execution);
  return execution.stage === 'staging' ? judgeStaging(execution) : judgeRun(execution);
}

function judgeCancelled(cancelled: SilentExecution): SilenceVerdict {
  if (cancelled.isHeld && !cancelled.isDropped) return DROP;
  return kill('cancelled', 'The runner did not confirm the end; its sandbox was discarded.');
}

function judgeStaging(stage: SilentExecution): SilenceVerdict {
  // Not the runner's silence: whether it has begun is asked over the next stream, and how long to wait for one is decided there.
  if (stage.interrupted) return PATIENCE;
  const allowedMs = stage.hasInput ? stage.allowedMs : INPUT_SILENCE_MS;
  if (stage.silentMs < allowedMs) return { do: 'wait', delayMs: allowedMs - stage.silentMs };
  if (!stage.hasInput) return kill('deadline_exceeded', 'The input did not arrive in time.');
  return kill('runner_error', 'The runner did not start the program in time.');
}

/** The program's time is over and its end was not told. */
function judgeRun(run: SilentExecution): SilenceVerdict {
  // Nobody heard the program end, or not: its time being over proves nothing.
  if (run.interrupted)
    return kill('sandbox_lost', 'The stream to the sandbox was lost and did not come back in time.');
  // A runner that may send nothing is not silent by its own will: how long a reader may stall is the gateway's.
  if (run.isHeld) return { do: 'wait', delayMs: RUNNER_GRACE_MS };
  if (run.silentMs < RUNNER_GRACE_MS) return { do: 'wait', delayMs: RUNNER_GRACE_MS - run.silentMs };
  if (run.sendsFiles) return kill('runner_error', 'The runner fell silent while it sent files.');
  return { do: 'time_out' };
}

function kill(code: ErrorCode, detail: string): SilenceVerdict {
  return { do: 'kill', failure: new Failure(code, detail) };
}
