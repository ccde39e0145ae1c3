import type { ReadStream, WriteStream } from 'node:tty';
import { parseArgs } from 'node:util';
import { Podgate, PodgateError, type Terminal } from '../client/podgate.ts';
import type { Session } from '../client/sessions.ts';
import { pause } from '../client/transport.ts';
import { clientConfig, terminalType } from './config.ts';
import { describeError } from './describe-error.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { type Io, UsageError, write } from './io.ts';
import { makeSession } from './make-session.ts';
import { parseCommand } from './parse-command.ts';
import { createScreenFilter, type ScreenFilter } from './screen-filter.ts';
import { screenSize } from './screen-size.ts';
import { shellQuote } from './shell-quote.ts';
import { createTypedInput, MAX_TYPED_BYTES, type TypedInput } from './typed-input.ts';
import { createTypedKeys } from './typed-keys.ts';

const HELP = `Usage: podgate shell [OPTIONS] [SESSION]

Opens an interactive terminal in a session, or comes back to the one that is there. Without SESSION it makes one, which
ends with the shell. Ends with the shell's exit status, 255 where the terminal was lost; ~. at the beginning of a line
leaves it running.

  -t, --template NAME  template of a new session
      --cluster NAME   cluster of a new session
      --ttl SECONDS    how long a new session lives (default 3600)
      --name NAME      which of the session's terminals (default main)
      --keep           leaves a new session when its shell has ended
      --raw-output     shows everything that programs write, also what reaches beyond the screen: clipboard, window,
                       pictures, questions to the terminal. Without it only what draws is let through
  -h, --help           this
`;

const LOST_STATUS = 255;
const DEFAULT_TTL = '3600';
/** A connection that is lost is looked for again for so long. */
const COME_BACK_MS = 120_000;
/** For a session to be ended that nobody needs any more; its time ends it too. */
const END_MS = 5_000;
const FIRST_WAIT_MS = 200;
const LAST_WAIT_MS = 5_000;
/** So long nothing is said of it: most come back sooner. */
const QUIET_MS = 2_000;
/** What the terminal still answers to a program that is gone is nobody's. */
const DRAIN_MS = 50;
/** On the last line, and off it: what was below it is drawn again by whoever drew it. */
const NOTICE =
  '\x1b7\x1b[999;1H\x1b[7m podgate: the connection is lost, trying again; ~. leaves \x1b[0m\x1b8';
const NO_NOTICE = '\x1b7\x1b[999;1H\x1b[0m\x1b[2K\x1b8';
/** With the bell: what is drawn next may take its place, and the end of the command says it again. */
const LOST_NOTICE = '\x07\x1b7\x1b[999;1H\x1b[7m podgate: not all that was typed has arrived \x1b[0m\x1b8';
/** What goes by itself. */
const PASSING = ['connection_lost', 'draining', 'agent_lost', 'no_agent', 'rate_limited', 'at_capacity'];

type Values = ReturnType<typeof parse>['values'];
type Tty = { stdin: ReadStream; stdout: WriteStream };
type Left = { status: number; why: 'exit' | 'left' | 'lost'; detail: string };
/** `lostBytes`: typed, and not arrived. */
type Attended = Left & { lostBytes: number };

/** `podgate shell`. */
export async function runShell(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parse(args);
  if (values.help) {
    await write(io.stdout, HELP);
    return 0;
  }
  if (positionals.length > 1) throw new UsageError('give one SESSION, or none to make one');
  const tty = { stdin: io.stdin as ReadStream, stdout: io.stdout as WriteStream };
  if (!tty.stdin.isTTY || !tty.stdout.isTTY)
    throw new UsageError("this needs a terminal; 'podgate sessions bash' runs commands without one");
  const config = await clientConfig(io.signal);
  const podgate = new Podgate({ ...config, cluster: values.cluster ?? config.cluster });
  const [named] = positionals;
  const session = named === undefined ? await makeSession(podgate, values, io) : podgate.sessions.open(named);
  const end = () => session.end({ signal: AbortSignal.timeout(END_MS) }).catch(() => {});
  const left = await attend(session, values, tty, io).catch(async (error: unknown) => {
    if (named === undefined) await end();
    throw error;
  });
  if (left.lostBytes > 0)
    await write(
      io.stderr,
      `podgate shell: ${left.lostBytes} bytes that were typed did not arrive: more than ${MAX_TYPED_BYTES} are not kept without a connection\n`,
    );
  const isOver = left.why === 'exit' && named === undefined && !values.keep;
  if (isOver) await end();
  else if (left.why !== 'exit' || named === undefined)
    await write(
      io.stderr,
      `podgate shell: ${left.detail}come back with: podgate shell ${again(session, values)}\n`,
    );
  return left.status;
}

function parse(args: string[]) {
  return parseCommand('shell', () =>
    parseArgs({
      args,
      allowPositionals: true,
      options: {
        template: { type: 'string', short: 't' },
        cluster: { type: 'string' },
        ttl: { type: 'string', default: DEFAULT_TTL },
        name: { type: 'string', default: 'main' },
        keep: { type: 'boolean', default: false },
        'raw-output': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h' },
      },
    }),
  );
}

function again({ id }: Session, { name }: Values): string {
  return name === 'main' ? id : `--name ${shellQuote(name)} ${id}`;
}

/** From raw mode to the end, whatever it is; the terminal is left as it was found. */
async function attend(session: Session, values: Values, { stdin, stdout }: Tty, io: Io): Promise<Attended> {
  const filter = createScreenFilter(values['raw-output']);
  const typed = createTypedInput();
  const leaving = new AbortController();
  const restore = () => {
    if (stdin.isRaw) stdin.setRawMode(false);
    stdout.write(filter.undo());
  };
  const leave = () => leaving.abort();
  const onTyped = readKeys(typed, leave);
  process.once('exit', restore);
  process.once('SIGHUP', leave);
  io.signal.addEventListener('abort', leave, { once: true });
  stdin.on('data', onTyped);
  stdin.once('end', leave);
  stdin.setRawMode(true);
  try {
    const left = await stay({ session, name: values.name, stdout, filter, typed, signal: leaving.signal });
    return { ...left, lostBytes: typed.lost };
  } finally {
    await pause(DRAIN_MS, undefined);
    stdin.off('data', onTyped);
    stdin.pause();
    process.off('exit', restore);
    process.off('SIGHUP', leave);
    restore();
  }
}

function readKeys(typed: TypedInput, leave: () => void) {
  const keys = createTypedKeys();
  return (chunk: Buffer) => {
    const { bytes, leaves } = keys.push(chunk);
    if (bytes.byteLength > 0) typed.push(bytes);
    if (leaves) leave();
  };
}

type Stay = {
  session: Session;
  name: string;
  stdout: WriteStream;
  filter: ScreenFilter;
  typed: TypedInput;
  /** The user goes. */
  signal: AbortSignal;
};

/** Looks at the terminal until it ends, over one connection after the other. */
async function stay(place: Stay): Promise<Left> {
  const { session, name, stdout, signal } = place;
  const writer = crypto.randomUUID();
  let offset = 0;
  let known: string | undefined;
  let lostAtMs: number | undefined;
  let waitMs = FIRST_WAIT_MS;
  using notice = noticeOn(stdout);
  for (;;) {
    let terminal: Terminal | undefined;
    try {
      const asked = { name, ...screenSize(stdout), writer, term: terminalType(), offset };
      terminal = await session.terminal({ ...asked, resume: known }, { signal });
      known = terminal.state.execution_id;
      notice.clear();
      if (lostAtMs !== undefined) redraw(terminal, stdout);
      [lostAtMs, waitMs] = [undefined, FIRST_WAIT_MS];
      return await show(terminal, place);
    } catch (error) {
      if (signal.aborted) return { status: 0, why: 'left', detail: 'it goes on; ' };
      // Nothing was there to come back to: the user is told as ever.
      if (known === undefined) throw error;
      offset = terminal?.offset ?? offset;
      lostAtMs ??= Date.now();
      const passes = error instanceof PodgateError && PASSING.includes(error.code);
      if (!passes || Date.now() - lostAtMs > COME_BACK_MS)
        return { status: LOST_STATUS, why: 'lost', detail: `${describeError(error)}; ` };
      if (Date.now() - lostAtMs > QUIET_MS) notice.show();
      await pause(waitMs, signal).catch(() => {});
      if (signal.aborted) return { status: 0, why: 'left', detail: 'it goes on; ' };
      waitMs = Math.min(LAST_WAIT_MS, waitMs * 2);
    }
  }
}

/** Says that the connection is lost, and takes that back. */
function noticeOn(stdout: WriteStream) {
  let isShown = false;
  const clear = () => {
    if (isShown) stdout.write(NO_NOTICE);
    isShown = false;
  };
  return {
    show() {
      stdout.write(NOTICE);
      isShown = true;
    },
    clear,
    [Symbol.dispose]: clear,
  };
}

async function show(terminal: Terminal, { stdout, filter, typed, signal }: Stay): Promise<Left> {
  const resize = () => {
    const { rows, columns } = screenSize(stdout);
    terminal.resize(rows, columns);
  };
  const close = () => terminal.close();
  stdout.on('resize', resize);
  signal.addEventListener('abort', close, { once: true });
  const lostBefore = typed.lost;
  typed.attach(terminal);
  if (typed.lost > lostBefore) stdout.write(LOST_NOTICE);
  try {
    for await (const event of terminal.events()) {
      if (event.type === 'output') await write(stdout, filter.push(event.bytes));
      else if (event.type === 'exit')
        return { status: event.exit_code ?? EXIT_STATUS.cancelled, why: 'exit', detail: '' };
      // Part of the screen is gone with it: whoever draws it draws it again.
      else redraw(terminal, stdout);
    }
    throw new PodgateError('The terminal ended without a word', { code: 'malformed_answer' });
  } finally {
    typed.detach();
    stdout.off('resize', resize);
    signal.removeEventListener('abort', close);
    terminal.close();
  }
}

/** Programs draw their screen anew when its size changes. */
function redraw(terminal: Terminal, stdout: WriteStream): void {
  const { rows, columns } = screenSize(stdout);
  terminal.resize(Math.max(1, rows - 1), columns);
  terminal.resize(rows, columns);
}
