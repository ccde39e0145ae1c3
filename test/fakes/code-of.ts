import type { PodgateError } from '../../client/podgate-error.ts';

/** Status and code with which something is refused. */
export async function codeOf(asked: Promise<unknown>): Promise<string> {
  try {
    await asked;
    return 'nothing went wrong';
  } catch (error) {
    const { status, code } = error as PodgateError;
    return `${status} ${code}`;
  }
}
