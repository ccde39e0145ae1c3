import type { BashEnd, PythonEnd } from '../client/session-types.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { type Io, write } from './io.ts';

const SENTENCES: Partial<Record<BashEnd['outcome'], string>> = {
  timed_out: 'ran out of time',
  cpu_limit: 'ran out of CPU time',
  memory_limit: 'ran out of memory',
  output_limit: 'printed too much',
  cancelled: 'was cancelled',
};

/** Says of a program's end what its output does not. Resolves to the status that it ends with. */
export async function tellEnd(
  end: BashEnd & { context_state?: PythonEnd['context_state'] },
  io: Io,
): Promise<number> {
  if (end.stdout_truncated || end.stderr_truncated)
    await write(
      io.stderr,
      `podgate: output was cut: ${end.stdout_bytes} bytes of stdout, ${end.stderr_bytes} of stderr in all\n`,
    );
  const sentence = SENTENCES[end.outcome];
  if (sentence) await write(io.stderr, `podgate: the program ${sentence}\n`);
  if (end.context_state === 'lost')
    await write(io.stderr, 'podgate: what the interpreter remembered is lost\n');
  if (end.outcome === 'timed_out') return EXIT_STATUS.timedOut;
  if (end.outcome === 'cancelled') return EXIT_STATUS.cancelled;
  return end.exit_code ?? EXIT_STATUS.failed;
}
