import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { Podgate } from '../client/podgate.ts';
import { PodgateError } from '../client/podgate-error.ts';
import type { Program } from '../client/program.ts';
import type { BashEnd, BashEvent } from '../client/session-types.ts';
import type { Session } from '../client/sessions.ts';
import { clientConfig } from './config.ts';
import { endAsProgram } from './end-as-program.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { type Io, printable, UsageError, write, writeOutput } from './io.ts';
import { makeSession } from './make-session.ts';
import { openFile } from './open-file.ts';
import { parseCommand, verbOf } from './parse-command.ts';
import { refuseExtra } from './refuse-extra.ts';
import { tellEnd } from './tell-end.ts';
import { wholeNumber } from './whole-number.ts';

const HELP = `Usage: podgate sessions create [-t TEMPLATE] [--cluster NAME] [--ttl SECONDS] [--idle SECONDS]    prints its id
       podgate sessions list
       podgate sessions bash [-i] ID COMMAND  streams, and ends with the command's status, 124 out of time, 125 when
                                              Podgate itself failed or was called wrongly
       podgate sessions python [-i] ID CODE   the same, in an interpreter that remembers
       podgate sessions put ID FILE [PATH]    a file up, by its own name unless PATH is given; a PATH
                                              that ends in / is the folder for it
       podgate sessions get ID PATH           a file to standard output
       podgate sessions unpack ID TAR [PATH]  a tar, compressed or not, into a folder
       podgate sessions pack ID [PATH]        a folder as tar to standard output
       podgate sessions extend ID SECONDS
       podgate sessions end ID…

  -i             feeds it with this command's own standard input while it runs
  --timeout MS   the command's own time, in ms (default 30000)
`;

const OPTIONS = {
  template: { type: 'string', short: 't' },
  cluster: { type: 'string' },
  ttl: { type: 'string' },
  idle: { type: 'string' },
  timeout: { type: 'string' },
  interactive: { type: 'boolean', short: 'i' },
  help: { type: 'boolean', short: 'h' },
} as const;
const RUNS_PROGRAM = ['bash', 'python'];

type Values = ReturnType<typeof parse>['values'];
type Verb = (podgate: Podgate, rest: string[], values: Values, io: Io) => Promise<number>;

/** `podgate sessions`. */
export function runSessions(args: string[], io: Io): Promise<number> {
  const run = () => sessions(args, io);
  return RUNS_PROGRAM.includes(verbOf(args, OPTIONS) ?? '') ? endAsProgram('sessions', io, run) : run();
}

async function sessions(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parse(args);
  const [verb, ...rest] = positionals;
  if (values.help || verb === undefined) {
    await write(values.help ? io.stdout : io.stderr, HELP);
    return values.help ? 0 : 2;
  }
  const act = Object.hasOwn(VERBS, verb) ? VERBS[verb] : undefined;
  if (!act) throw new UsageError(`there is no 'sessions ${verb}': use ${Object.keys(VERBS).join(', ')}`);
  refuseExtra(rest, Object.hasOwn(MOST_ARGUMENTS, verb) ? (MOST_ARGUMENTS[verb] as number) : rest.length);
  const config = await clientConfig(io.signal);
  const { baseUrl, key, cluster } = config;
  return act(new Podgate({ baseUrl, key, cluster: values.cluster ?? cluster }), rest, values, io);
}

function parse(args: string[]) {
  return parseCommand('sessions', () => parseArgs({ args, allowPositionals: true, options: OPTIONS }));
}

/** Of `end` there is no bound. */
const MOST_ARGUMENTS: Record<string, number> = {
  create: 0,
  list: 0,
  bash: 2,
  python: 2,
  put: 3,
  get: 2,
  unpack: 3,
  pack: 2,
  extend: 2,
};

const VERBS: Record<string, Verb> = {
  async create(podgate, _rest, values, io) {
    // Ended where nobody is told its id.
    await using untold = new AsyncDisposableStack();
    const { id } = untold.use(await makeSession(podgate, values, io));
    if (!(await write(io.stdout, `${printable(id)}\n`))) return EXIT_STATUS.readerGone;
    untold.move();
    return 0;
  },
  async list(podgate, _rest, _values, io) {
    let cursor: string | undefined;
    do {
      const { sessions, next_cursor } = await podgate.sessions.list({ cursor, signal: io.signal });
      for (const { session_id, cluster, template, expires_at, running } of sessions) {
        const end = new Date(expires_at * 1_000).toISOString();
        const line = `${session_id}  ${cluster}  ${template}  until ${end}  running ${running}`;
        if (!(await write(io.stdout, `${printable(line)}\n`))) return EXIT_STATUS.readerGone;
      }
      cursor = next_cursor ?? undefined;
    } while (cursor !== undefined);
    return 0;
  },
  async bash(podgate, rest, { timeout, interactive }, io) {
    const [session, cmd] = taken(podgate, rest, 'a COMMAND');
    if (interactive)
      return fed(await session.spawn({ cmd, ...timeoutOf(timeout) }, { signal: io.signal }), io);
    return follow(session.bashStream({ cmd, ...timeoutOf(timeout) }, { signal: io.signal }), io);
  },
  async python(podgate, rest, { timeout, interactive }, io) {
    const [session, code] = taken(podgate, rest, 'CODE');
    if (interactive)
      return fed(
        await session.begin({ code, input: true, ...timeoutOf(timeout) }, { signal: io.signal }),
        io,
      );
    return follow(session.stream({ code, ...timeoutOf(timeout) }, { signal: io.signal }), io);
  },
  async put(podgate, rest, _values, io) {
    const [session, file] = taken(podgate, rest, 'a FILE');
    const [, , at = ''] = rest;
    const path = at === '' || at.endsWith('/') ? at + basename(file) : at;
    await session.files.write(path, await openFile(file), { signal: io.signal });
    return 0;
  },
  async get(podgate, rest, _values, io) {
    const [session, path] = taken(podgate, rest, 'a PATH');
    return pour(await session.files.read(path, { signal: io.signal }), io);
  },
  async unpack(podgate, rest, _values, io) {
    const [session, file] = taken(podgate, rest, 'a TAR');
    const { entries } = await session.files.unpack(await openFile(file), rest[2] ?? '', {
      signal: io.signal,
    });
    await write(io.stdout, `${entries} entries\n`);
    return 0;
  },
  async pack(podgate, rest, _values, io) {
    return pour(await sessionOf(podgate, rest).files.pack(rest[1] ?? '', { signal: io.signal }), io);
  },
  async extend(podgate, rest, _values, io) {
    const [session, seconds] = taken(podgate, rest, 'SECONDS');
    await session.extend(wholeNumber('SECONDS', seconds), { signal: io.signal });
    return 0;
  },
  async end(podgate, rest, _values, io) {
    sessionOf(podgate, rest);
    for (const id of rest) await podgate.sessions.open(id).end({ signal: io.signal });
    return 0;
  },
};

function sessionOf(podgate: Podgate, [id]: string[]): Session {
  if (id === undefined) throw new UsageError("give an ID. 'podgate sessions --help' says more.");
  return podgate.sessions.open(id);
}

function taken(podgate: Podgate, rest: string[], what: string): [Session, string] {
  const session = sessionOf(podgate, rest);
  const [, argument] = rest;
  if (argument === undefined) throw new UsageError(`give ${what}. 'podgate sessions --help' says more.`);
  return [session, argument];
}

/** Follows a program and feeds it: a request for each piece, since nothing comes for as long as somebody thinks. */
async function fed<End extends BashEnd>(program: Program<End>, io: Io): Promise<number> {
  const over = new AbortController();
  const forGood = new Promise<never>(() => {});
  const feed = async () => {
    const signal = AbortSignal.any([over.signal, io.signal]);
    for await (const piece of io.stdin) await program.write(piece, { signal });
    await program.end({ signal });
    return forGood;
  };
  const feeding = feed().catch((error: unknown) => {
    const isOver = error instanceof PodgateError && ['conflict', 'not_found'].includes(error.code);
    // That it takes no more, its end says.
    if (over.signal.aborted || isOver) return forGood;
    throw error;
  });
  try {
    return await Promise.race([follow(program, io), feeding]);
  } finally {
    over.abort();
    io.stdin.destroy();
  }
}

async function follow(events: AsyncIterable<BashEvent>, io: Io): Promise<number> {
  for await (const event of events) {
    if (event.type === 'result') return tellEnd(event, io);
    // A `gap` is told to those who come back, as nobody does here.
    if (event.type === 'output' && !(await writeOutput(io, event))) return EXIT_STATUS.readerGone;
  }
  return EXIT_STATUS.cancelled;
}

async function pour(stream: ReadableStream<Uint8Array>, io: Io): Promise<number> {
  for await (const chunk of stream) if (!(await write(io.stdout, chunk))) return EXIT_STATUS.readerGone;
  return 0;
}

function timeoutOf(timeout: string | undefined): { timeout_ms?: number } {
  return timeout === undefined ? {} : { timeout_ms: wholeNumber('--timeout', timeout) };
}
