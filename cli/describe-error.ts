import { PodgateError } from '../client/podgate-error.ts';
import { Failure } from '../shared/errors.ts';
import { printable, UsageError } from './io.ts';

/** One line for a person: what went wrong and, where it is known, what to do. Never a stack. */
export function describeError(error: unknown): string {
  if (error instanceof UsageError) return error.message;
  if (error instanceof Failure) return error.detail;
  if (error instanceof PodgateError) {
    const request = error.requestId ? `, request ${error.requestId}` : '';
    return `${printable(error.message)} (${error.code}${request})`;
  }
  if (error instanceof Error) {
    const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
    return printable(`${error.message}${cause}`);
  }
  return printable(String(error));
}
