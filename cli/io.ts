import type { Readable, Writable } from 'node:stream';
import { printable } from '../shared/printable.ts';

export { printable };

/** Where a command reads and writes: the process's own streams, or a test's. */
export type Io = {
  stdin: Readable;
  stdout: Writable;
  stderr: Writable;
  /** Aborts when the user interrupts the command. */
  signal: AbortSignal;
};

/** What a command throws when the user has to change something: printed as one line, exit status `status`. */
export class UsageError extends Error {
  readonly status: number;

  constructor(message: string, status = 2) {
    super(message);
    this.name = 'UsageError';
    this.status = status;
  }
}

/**
 * Writes and waits until the stream takes more, so that a slow terminal or pipe holds the sender back. False: its reader
 * is gone. (`destroyed` does not say so: a process's own stdout is never destroyed.)
 */
export async function write(stream: Writable, chunk: string | Uint8Array): Promise<boolean> {
  if (stream.destroyed || stream.writableEnded) return false;
  return new Promise<boolean>((resolve, reject) => {
    stream.write(chunk, (error) => {
      if (!error) resolve(true);
      else if ((error as NodeJS.ErrnoException).code === 'EPIPE') resolve(false);
      else reject(error);
    });
  });
}

/** As `write`, of what a program says. False where nobody reads its standard output: its errors alone keep nobody. */
export async function writeOutput(
  io: Io,
  { stream, data }: { stream: 'stdout' | 'stderr'; data: string },
): Promise<boolean> {
  return (await write(io[stream], data)) || stream === 'stderr';
}

/** The last word of a command: where it cannot be said, its status has to do. */
export async function say({ stderr }: Pick<Io, 'stderr'>, text: string): Promise<void> {
  await write(stderr, text).catch(() => false);
}

/** JSON of what came from there, as safe: in its strings the same escapes mean the same characters. */
export function printableJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2).split('\n').map(printable).join('\n')}\n`;
}
