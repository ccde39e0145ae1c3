import { printable, UsageError } from './io.ts';

/** What a command would pass over in silence was meant for something: a word of a command that lacks its quotes. */
export function refuseExtra(args: readonly string[], most: number): void {
  const extra = args[most];
  if (extra === undefined) return;
  throw new UsageError(`'${printable(extra)}' is one argument too many: quote what has blanks in it`);
}
