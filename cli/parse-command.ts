import { UsageError } from './io.ts';

/** Runs `parseArgs` and turns what it throws into a sentence that says where the help is. */
export function parseCommand<T>(command: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${reason} ('podgate ${command} --help' says what there is)`);
  }
}
