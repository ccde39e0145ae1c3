import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Io, UsageError, write } from './io.ts';

const MAX_PRINTED_BYTES = 1_048_576;

export type ToolRun = {
  tool: string;
  args: readonly string[];
  /** What to do where the tool is not on the PATH. */
  install: string;
  stdin?: string;
  /** A status other than 0 is no failure. */
  mayFail?: boolean;
};

/** Runs another program to its end and gives what it prints. What it says on stderr is shown as it comes. */
export async function runTool({ tool, args, install, stdin, mayFail }: ToolRun, io: Io): Promise<string> {
  const child = spawn(tool, args, { stdio: ['pipe', 'pipe', 'pipe'], signal: io.signal });
  // A tool that does not read ends all the same; a tool that is not there says so by 'error'.
  child.stdin.on('error', () => {});
  child.stdin.end(stdin);
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (printed.length < MAX_PRINTED_BYTES) printed += text;
  });
  child.stderr.on('data', (chunk: Buffer) => void write(io.stderr, chunk));
  try {
    const [status, signal] = await once(child, 'close');
    if (status === 0 || mayFail) return printed;
    throw new UsageError(`'${[tool, ...args].join(' ')}' ended with ${signal ?? `status ${status}`}`, 1);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new UsageError(`${tool} is not on the PATH: ${install}`);
  }
}
