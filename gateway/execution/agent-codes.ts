import { type ErrorCode, isErrorCode } from '../../shared/errors.ts';

/**
 * Refusals that another instance would repeat, since they are about the request; or that it should: a share that is
 * used up at one instance must not be found again at the next.
 */
const AT_ONCE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'rate_limited',
  'stage_failed',
  'too_large',
  'duplicate',
  'busy',
  'no_session',
]);
/** Codes that an agent may refuse an execution with; others are its mistake, not the caller's. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'policy_denied',
  'no_template',
  'no_language',
  'duplicate',
  'busy',
  'no_session',
  'no_terminal',
  'replaced',
  'rate_limited',
  'sandbox_lost',
  'runner_error',
  'stage_failed',
  'too_large',
  'at_capacity',
  'image_error',
  'quota_exceeded',
  'unschedulable',
  'backend_unavailable',
  'isolation_failed',
  'draining',
]);
const FAILURES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'busy',
  'conflict',
  'no_terminal',
  'sandbox_lost',
  'runner_error',
  'stage_failed',
  'agent_lost',
  'cancelled',
  'draining',
  'deadline_exceeded',
  'reader_stalled',
  'policy_denied',
  'too_large',
  'backend_unavailable',
  'image_error',
]);

/** One sandbox failed; its instance has others. */
const OF_A_SANDBOX: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['sandbox_lost', 'runner_error']);

/** Whether a refusal says nothing of the instance but that one sandbox of it failed. */
export function isOfASandbox(code: ErrorCode): boolean {
  return OF_A_SANDBOX.has(code);
}

/** Whether a refusal is the answer, wherever else the execution might run. */
export function isFinal(code: ErrorCode): boolean {
  return AT_ONCE.has(code);
}

/** The code of a NACK, as a caller may be told it. */
export function refusalCode(code: string): ErrorCode {
  return isErrorCode(code) && REFUSALS.has(code) ? code : 'backend_unavailable';
}

/** The code of an EXIT that failed, as a caller may be told it. */
export function failureCode(code: string): ErrorCode {
  return isErrorCode(code) && FAILURES.has(code) ? code : 'runner_error';
}
