import { COMMANDS, usage } from './commands.ts';
import { describeError } from './describe-error.ts';
import { type Io, say, UsageError, write } from './io.ts';
import { VERSION } from './version.ts';

/** Exit statuses of the command itself; `exec` ends with the program's. */
const USAGE_STATUS = 2;
const FAILURE_STATUS = 1;
/** 128 + the number of the signal, as shells have it. */
const SIGNAL_STATUS = { SIGINT: 130, SIGTERM: 143 } as const;

/** Runs `podgate` with `args` and resolves to its exit status. It never throws. */
export async function main(args: string[], io: Io): Promise<number> {
  const [name = ''] = args;
  try {
    return await run(args, io);
  } catch (error) {
    if (io.signal.aborted) {
      await say(io, `podgate ${name}: interrupted\n`);
      return SIGNAL_STATUS[io.signal.reason as keyof typeof SIGNAL_STATUS] ?? FAILURE_STATUS;
    }
    await say(io, `podgate ${name}: ${describeError(error)}\n`);
    return error instanceof UsageError ? error.status : FAILURE_STATUS;
  }
}

async function run([name, ...rest]: string[], io: Io): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    await write(name === undefined ? io.stderr : io.stdout, usage());
    return name === undefined ? USAGE_STATUS : 0;
  }
  if (name === '--version' || name === 'version') {
    await write(io.stdout, `${VERSION}\n`);
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) {
    await write(io.stderr, `podgate: there is no command '${name}'. 'podgate --help' lists them.\n`);
    return USAGE_STATUS;
  }
  return (await command.load()).run(rest, io);
}

const interrupt = new AbortController();
const io: Io = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  signal: interrupt.signal,
};

// A reader that closes its end ends the command's writing, not the command with a stack.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
for (const signal of ['SIGINT', 'SIGTERM'] satisfies (keyof typeof SIGNAL_STATUS)[])
  process.once(signal, () => interrupt.abort(signal));

process.exitCode = await main(process.argv.slice(2), io);
// A WebSocket whose peer is silent cannot be let go of, and keeps the process.
if (process.argv[2] === 'shell') process.exit();
