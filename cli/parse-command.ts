import { type ParseArgsConfig, parseArgs } from 'node:util';
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

/** The first argument that is neither an option nor an option's value, as good as that can be told where some are wrong. */
export function verbOf(args: string[], options: ParseArgsConfig['options']): string | undefined {
  return parseArgs({ args, options, allowPositionals: true, strict: false }).positionals[0];
}
