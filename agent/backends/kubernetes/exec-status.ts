import { Failure } from '../../../shared/errors.ts';
import { wordsOf } from './kube-answer.ts';
import type { Status } from './kube-objects.ts';

/** How an exec ended, from its last frame on channel 3. */
export type ExecStatus = {
  /** Null where the command never ran to an end of its own: `reason` says why. */
  exitCode: number | null;
  reason: string;
  /** The cluster's own words. */
  words: string;
};

/**
 * Reads the status frame. A command that ended with a code has `NonZeroExitCode` and the code among the causes; anything
 * else that is not `Success` never was a result. Throws a Failure for what is no status at all.
 */
export function parseExecStatus(text: string): ExecStatus {
  const status = readStatus(text);
  const words = wordsOf(status);
  if (status.status === 'Success') return { exitCode: 0, reason: 'Completed', words };
  const { causes } = status.details ?? {};
  const cause = Array.isArray(causes) ? causes.find((each) => each?.reason === 'ExitCode') : undefined;
  const isCode = status.reason === 'NonZeroExitCode' && /^\d{1,3}$/.test(cause?.message ?? '');
  return {
    exitCode: isCode ? Number(cause?.message) : null,
    reason: typeof status.reason === 'string' ? status.reason : 'Unknown',
    words,
  };
}

function readStatus(text: string): Status {
  let cause: unknown;
  try {
    const status: unknown = JSON.parse(text);
    if (typeof status === 'object' && status !== null) return status;
  } catch (error) {
    cause = error;
  }
  const detail = 'The exec ended with a status that cannot be read.';
  throw new Failure('sandbox_lost', detail, { cause, started: 'unknown' });
}
