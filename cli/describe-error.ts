import { PodgateError } from '../client/podgate-error.ts';
import { Failure } from '../shared/errors.ts';
import { printable, UsageError } from './io.ts';

/** One line for a person: what went wrong and, where it is known, what to do. Never a stack. */
export function describeError(error: unknown): string {
  if (error instanceof UsageError) return error.message;
  if (error instanceof Failure) return error.detail;
  if (error instanceof PodgateError) {
    const unreachable = describeUnreachable(error);
    if (unreachable !== undefined) return unreachable;
    const request = error.requestId ? `, request ${error.requestId}` : '';
    return printable(`${error.message} (${error.code}${request})`);
  }
  if (error instanceof Error) {
    const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
    return printable(`${error.message}${cause}`);
  }
  return printable(String(error));
}

/** Before a request was sent: nothing can have started, and the address is what to look at. */
const UNREACHABLE = [
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
  // https:// of what speaks no TLS.
  'ERR_SSL_WRONG_VERSION_NUMBER',
];

function describeUnreachable(error: PodgateError): string | undefined {
  for (let cause: unknown = error.cause; cause instanceof Error; cause = cause.cause) {
    const { code, address, hostname, port } = cause as Error &
      Record<'code' | 'address' | 'hostname' | 'port', unknown>;
    if (typeof code !== 'string' || !UNREACHABLE.includes(code)) continue;
    const where = [address ?? hostname, port].filter((part) => part !== undefined).join(':');
    return `no gateway answers${where && ` at ${printable(where)}`} (${code}): start 'podgate dev', or set PODGATE_URL to where one is`;
  }
  return undefined;
}
