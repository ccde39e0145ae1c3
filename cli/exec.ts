import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { Podgate } from '../client/podgate.ts';
import { PodgateError } from '../client/podgate-error.ts';
import type { ExecuteRequest } from '../client/types.ts';
import { MAX_REQUEST_BYTES } from '../shared/limits.ts';
import { clientConfig } from './config.ts';
import { endAsProgram } from './end-as-program.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { type Io, UsageError, write } from './io.ts';
import { openFile } from './open-file.ts';
import { parseCommand } from './parse-command.ts';
import { readInput, readInputFile } from './read-input.ts';
import { showExecution } from './show-execution.ts';
import { readStagedFile } from './staged-file.ts';
import { wholeNumber } from './whole-number.ts';

const HELP = `Usage: podgate exec [OPTIONS] FILE [ARGUMENT…]
       podgate exec [OPTIONS] -c CODE [ARGUMENT…]
       podgate exec [OPTIONS] - [ARGUMENT…]        (code from standard input)

Runs the code in a sandbox, streams what it prints, and ends with the program's exit status: 128 + signal when a
signal ended it, 124 when it ran out of time, 125 when Podgate itself failed or was called wrongly.

  -c CODE              the code itself
  -f FILE[=PATH]       uploads FILE and stages it as PATH (its own name unless given); may be repeated. A FILE with =
                       in its name stands in double quotes, beside the shell's own: -f '"a=b.csv"'
  -o DIR               saves files that the program made below DIR
  -l, --language NAME  python, bash or node (by the file's ending, else python)
  -t, --template NAME  template to run in
      --cluster NAME   cluster to run on (default PODGATE_CLUSTER, else the key's)
      --timeout MS     the program's own time, in ms (default 30000, or less where the key may use no more)
      --queue MS       how long to wait for a sandbox, in ms (default 5000)
  -e NAME=VALUE        sets a variable; may be repeated
      --stdin FILE     gives FILE as standard input; - passes this command's own
      --echo-last      prints the value of a last expression, as a notebook does
      --rich           prints a last value, and with -o saves its other forms (HTML, JSON, images) and the figures
                       that were shown or left open; python alone
      --detach         prints the execution's id once the code has begun, and leaves it running;
                       'podgate executions events ID' shows what it says, until ten minutes after its end
      --idempotency-key KEY
                       runs once, however often the same is asked with the same key
  -h, --help           this
`;

const DEFAULT_TIMEOUT = '30000';
const OPTIONS = {
  c: { type: 'string', short: 'c' },
  f: { type: 'string', short: 'f', multiple: true },
  o: { type: 'string', short: 'o' },
  e: { type: 'string', short: 'e', multiple: true },
  language: { type: 'string', short: 'l' },
  template: { type: 'string', short: 't' },
  cluster: { type: 'string' },
  timeout: { type: 'string' },
  queue: { type: 'string', default: '5000' },
  stdin: { type: 'string' },
  'echo-last': { type: 'boolean' },
  rich: { type: 'boolean' },
  detach: { type: 'boolean' },
  'idempotency-key': { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;
/** What the argument behind it belongs to, as in `-c CODE`. */
const WITH_VALUE = new Set(
  Object.entries<{ type: string; short?: string }>(OPTIONS).flatMap(([name, { type, short }]) =>
    type === 'string' ? [`--${name}`, ...(short ? [`-${short}`] : [])] : [],
  ),
);
const LANGUAGES = { '.py': 'python', '.sh': 'bash', '.js': 'node', '.cjs': 'node' } as const;

/** `podgate exec`: resolves to the exit status of the program, or to one that no failure of ours shares with it. */
export function runExec(args: string[], io: Io): Promise<number> {
  return endAsProgram('exec', io, () => exec(args, io));
}

async function exec(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parse(args);
  if (values.help) {
    await write(io.stdout, HELP);
    return 0;
  }
  if (values.detach && values.o !== undefined)
    throw new UsageError(
      "--detach does not wait for files: 'podgate executions events ID -o DIR' saves them",
    );
  const { code, language, rest } = await source(values, positionals, io);
  const config = await clientConfig(io.signal);
  const podgate = new Podgate({ baseUrl: config.baseUrl, key: config.key });
  const request: ExecuteRequest = {
    code,
    language,
    args: rest,
    timeout_ms: wholeNumber('--timeout', values.timeout ?? DEFAULT_TIMEOUT),
    queue_timeout_ms: wholeNumber('--queue', values.queue),
    last_line_interactive: values['echo-last'] ?? values.rich ?? false,
    ...(values.rich && { rich: true }),
    env: variables(values.e ?? []),
    stdin: values.stdin === undefined ? null : await inputText(values.stdin, io),
    files: await upload(podgate, values.f ?? [], io.signal),
    ...(values.template ? { template: values.template } : {}),
    ...((values.cluster ?? config.cluster) ? { cluster: values.cluster ?? config.cluster } : {}),
  };
  const options = { signal: io.signal, idempotencyKey: values['idempotency-key'] };
  // Only a number that somebody gave is refused above a ceiling.
  const less = (error: unknown) => (values.timeout === undefined ? lessTime(request, error) : undefined);
  if (values.detach) {
    const id = await podgate.start(request, options).catch((error) => {
      const again = less(error);
      if (again === undefined) throw error;
      return podgate.start(again, options);
    });
    if (await write(io.stdout, `${id}\n`)) return 0;
    // Nobody can ask for it, but by a key.
    if (options.idempotencyKey === undefined) await podgate.executions.cancel(id, { signal: io.signal });
    return EXIT_STATUS.readerGone;
  }
  async function* events() {
    try {
      yield* podgate.stream(request, options);
    } catch (error) {
      const again = less(error);
      if (again === undefined) throw error;
      yield* podgate.stream(again, options);
    }
  }
  return showExecution(podgate, events(), { io, saveTo: values.o });
}

/** The request with all the time that its key may use, where it was refused because that is less: nothing ran. */
function lessTime(request: ExecuteRequest, error: unknown): ExecuteRequest | undefined {
  if (!(error instanceof PodgateError) || error.code !== 'invalid_request') return undefined;
  const { message = '' } = error.errors.find(({ path }) => path === 'timeout_ms') ?? {};
  const ceiling = /^timeout_ms exceeds maximum of (\d+) ms$/.exec(message)?.[1];
  return ceiling === undefined ? undefined : { ...request, timeout_ms: Number(ceiling) };
}

function parse(args: string[]) {
  // Everything after the program belongs to the program.
  const end = programAt(args);
  const own = args.slice(0, end);
  const program = args.slice(args[end] === '--' ? end + 1 : end);
  return parseCommand('exec', () =>
    parseArgs({
      args: [...own, '--', ...program],
      allowPositionals: true,
      options: OPTIONS,
    }),
  );
}

/** Index of the first argument that is no option of ours. */
function programAt(args: string[]): number {
  let at = 0;
  while (at < args.length) {
    const argument = args[at] as string;
    if (argument === '-' || argument === '--' || !argument.startsWith('-')) return at;
    at += WITH_VALUE.has(argument) ? 2 : 1;
  }
  return args.length;
}

type Values = ReturnType<typeof parse>['values'];

async function source(values: Values, positionals: string[], io: Io) {
  if (values.c !== undefined)
    return { code: values.c, language: language(values.language), rest: positionals };
  const [file, ...rest] = positionals;
  if (file === undefined)
    throw new UsageError("give a FILE, '-' or -c CODE. 'podgate exec --help' says more.");
  if (file === '-') {
    if (values.stdin === '-')
      throw new UsageError("standard input cannot be both the code and the program's input");
    return {
      code: await inputText('-', io),
      language: language(values.language),
      rest,
    };
  }
  const code = await inputText(file, io);
  const ending = file.slice(file.lastIndexOf('.'));
  const guess = Object.hasOwn(LANGUAGES, ending) ? LANGUAGES[ending as keyof typeof LANGUAGES] : undefined;
  return { code, language: language(values.language ?? guess), rest };
}

function language(name: string | undefined): 'python' | 'bash' | 'node' {
  if (name === undefined) return 'python';
  if (name === 'python' || name === 'bash' || name === 'node') return name;
  throw new UsageError(`there is no language '${name}': use python, bash or node`);
}

/** A file, or standard input for `-`, as text that a request has room for. */
async function inputText(from: string, { stdin, signal }: Io): Promise<string> {
  const name = from === '-' ? 'standard input' : from;
  const options = { name, maxBytes: MAX_REQUEST_BYTES, signal };
  const bytes = await (from === '-' ? readInput(stdin, options) : readInputFile(from, options));
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new UsageError(`${name} is not UTF-8`);
  }
}

function variables(pairs: string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new UsageError(`-e takes NAME=VALUE, not '${pair}'`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

async function upload(podgate: Podgate, files: string[], signal: AbortSignal) {
  const staged: { path: string; file_id: string }[] = [];
  for (const { file, path } of files.map(readStagedFile)) {
    const { file_id } = await podgate.files.upload(await openFile(file), {
      filename: basename(file),
      signal,
    });
    staged.push({ path, file_id });
  }
  return staged;
}
