import { printable } from './printable.ts';

/** What a process keeps of log lines that nobody reads: the pipe behind its standard output is full. */
export const MAX_LOG_WAITING_BYTES = 4_194_304;

/** One line of a log. JSON leaves control characters beyond ASCII as they are, and terminals that show a log heed them. */
export function logLine(fields: object, plain?: (key: string, value: unknown) => unknown): string {
  return `${printable(JSON.stringify(fields, plain))}\n`;
}

/** What is needed of a stream such as `process.stdout`. */
export type LineSink = { readonly writableLength: number; write(line: string): unknown };

/**
 * Writes lines of JSON objects to a stream that may not be read for a while. Node keeps all that a full pipe does not take,
 * so beyond the bound lines are left out; `lines_lost` of the next that is written says how many.
 */
export function createLineWriter(sink: LineSink): (line: string) => void {
  let lost = 0;
  return (line) => {
    if (sink.writableLength + line.length > MAX_LOG_WAITING_BYTES) {
      lost += 1;
      return;
    }
    sink.write(lost === 0 ? line : line.replace(/\}\n$/, `,"lines_lost":${lost}}\n`));
    lost = 0;
  };
}
