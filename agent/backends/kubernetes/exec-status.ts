import { Failure } from '../../../shared/errors.ts';
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
  let status: Status;
  try {
    status = JSON.parse(text) as Status;
  } catch (cause) {
    throw new Failure('sandbox_lost', 'The exec ended with a status that cannot be read.', {
      cause,
      started: 'unknown',
    });
  }
  const words = status.message ?? '';
  if (status.status === 'Success') return { exitCode: 0, reason: 'Completed', words };
  const cause = status.details?.causes?.find(({ reason }) => reason === 'ExitCode');
  const isCode = status.reason === 'NonZeroExitCode' && /^\d{1,3}$/.test(cause?.message ?? '');
  return {
    exitCode: isCode ? Number(cause?.message) : null,
    reason: status.reason ?? 'Unknown',
    words,
  };
}
