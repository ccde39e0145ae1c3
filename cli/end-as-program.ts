import { describeError } from './describe-error.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { type Io, say } from './io.ts';

/** Runs what ends with a program's exit status: a failure of ours, or a wrong call, ends with one that is told from it. */
export async function endAsProgram(command: string, io: Io, run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    if (io.signal.aborted) throw error;
    await say(io, `podgate ${command}: ${describeError(error)}\n`);
    return EXIT_STATUS.failed;
  }
}
