import { parseData } from './answers.ts';
import { PodgateError } from './podgate-error.ts';
import { type Call, checkSignal, type Transport } from './transport.ts';

const SUBPROTOCOL = 'podgate.terminal.v1';
/** What one message may carry. */
const MAX_INPUT_BYTES = 32_768;
/** The gateway gives up before: it waits 20 s for an agent. */
const OPEN_MS = 30_000;
/** The gateway is there, and so is the session: what a request without an upgrade cannot find out is left. */
const UNEXPLAINED =
  "The terminal's WebSocket could not be opened, and a WebSocket is not told why: the offset may be beyond what the terminal has shown, the sandbox may have no terminals, too much may be open there, or a proxy may let no WebSocket through";
/** Output is acknowledged in steps; the gateway sends 256 KiB beyond. */
const ACK_BYTES = 32_768;

/** Which terminal, and how a new one is to be. */
export type TerminalRequest = {
  /** `main` unless given. */
  name?: string | undefined;
  /** 24 rows of 80 columns unless given; a terminal that is there keeps its size where neither is. */
  rows?: number | undefined;
  columns?: number | undefined;
  /** Bytes of output that the caller has: output goes on there. */
  offset?: number | undefined;
  /** `execution_id` of the terminal that the caller had before: no other is opened. */
  resume?: string | undefined;
  /** False: only one that there is. */
  create?: boolean | undefined;
  /** Who types: input is counted for each. */
  writer?: string | undefined;
  /** TERM of a new one. */
  term?: string | undefined;
};

/** What a terminal shows. */
export type TerminalEvent =
  | { type: 'output'; bytes: Uint8Array }
  /** Output from one offset to the other is not kept any more. */
  | { type: 'gap'; from: number; to: number }
  /** The shell has ended. */
  | { type: 'exit'; outcome: string; exit_code: number | null; signal: number | null };

/** What the gateway says first. */
export type TerminalState = {
  terminal: string;
  created: boolean;
  execution_id: string;
  output_offset: number;
  /** What the terminal has had of this writer's input; null where its program has ended. */
  input_offset: number | null;
};

type Message =
  | ({ type: 'attached' } & TerminalState)
  | { type: 'gap'; from: number; to: number }
  | { type: 'exit'; outcome: string; exit_code: number | null; signal: number | null }
  | { type: 'error'; code: string; message: string };

/** One who looks at a terminal of a session, and types. */
export type Terminal = {
  readonly state: TerminalState;
  /** Bytes of output so far, those before `offset` included. */
  readonly offset: number;
  /** What is typed. Without effect once the connection is gone. */
  write(bytes: Uint8Array<ArrayBuffer>): void;
  resize(rows: number, columns: number): void;
  /**
   * Output, then `exit`. Throws PodgateError where the connection ends before: `connection_lost`, or the gateway's code.
   * What is not taken is not acknowledged, and so holds the program back. One loop at a time.
   */
  events(): AsyncGenerator<TerminalEvent, void, undefined>;
  /** Leaves; the terminal goes on. */
  close(): void;
};

/** Rejects with PodgateError where there is none to be had, or with the signal's reason. */
export async function openTerminal(
  transport: Transport,
  path: string,
  { create, ...asked }: Omit<TerminalRequest, 'name'>,
  signal: AbortSignal | undefined,
): Promise<Terminal> {
  checkSignal(signal);
  signal?.throwIfAborted();
  const query = { ...asked, create: create === undefined ? undefined : String(create) };
  const socket = transport.socket(path, query, SUBPROTOCOL);
  socket.binaryType = 'arraybuffer';
  const terminal = createTerminal(socket);
  const onAbort = () => terminal.leave(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  socket.addEventListener('close', () => signal?.removeEventListener('abort', onAbort), { once: true });
  const silent = new PodgateError(`No terminal within ${OPEN_MS} ms`, { code: 'connection_lost' });
  const timer = setTimeout(() => terminal.leave(silent), OPEN_MS);
  try {
    await terminal.attached;
    return terminal;
  } catch (error) {
    signal?.throwIfAborted();
    if (terminal.wasOpen || error === silent) throw error;
    throw await refusal(transport, path, query, signal, error);
  } finally {
    clearTimeout(timer);
  }
}

/** A WebSocket says nothing of why it was refused; the same request without an upgrade does. */
async function refusal(
  transport: Transport,
  path: string,
  query: Call['query'],
  signal: AbortSignal | undefined,
  fallback: unknown,
): Promise<unknown> {
  const limited = AbortSignal.any([AbortSignal.timeout(OPEN_MS), ...(signal ? [signal] : [])]);
  try {
    await transport.send({ method: 'GET', path, query, signal: limited, once: true });
    return fallback;
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof PodgateError)) return fallback;
    return error.status === 426 ? new PodgateError(UNEXPLAINED, { code: 'connection_lost' }) : error;
  }
}

function createTerminal(socket: WebSocket) {
  const attached = Promise.withResolvers<void>();
  attached.promise.catch(() => {});
  const queue: TerminalEvent[] = [];
  let state: TerminalState | undefined;
  let offset = 0;
  let acknowledged = 0;
  let ended: { why: unknown } | 'exit' | undefined;
  let wasOpen = false;
  let wake: () => void = () => {};

  function end(why: unknown): void {
    ended ??= { why };
    attached.reject(why);
    wake();
  }

  /** Whoever leaves does not wait for a peer that may be silent. */
  function leave(why: unknown): void {
    end(why);
    socket.close();
  }

  function hear(message: Message): void {
    if (message.type === 'attached') {
      state = message;
      offset = acknowledged = message.output_offset;
      attached.resolve();
    } else if (message.type === 'error')
      end(new PodgateError(message.message, { code: message.code, started: 'yes' }));
    else if (message.type === 'gap' || message.type === 'exit') {
      queue.push(message);
      if (message.type === 'exit') ended ??= 'exit';
    }
    wake();
  }

  function hearText(text: string): void {
    try {
      hear(parseData<Message>(text, 'yes'));
    } catch (error) {
      leave(error);
    }
  }

  socket.addEventListener('open', () => {
    wasOpen = true;
  });
  socket.addEventListener('message', (event: MessageEvent) => {
    const data = event.data as string | ArrayBuffer;
    if (typeof data === 'string') hearText(data);
    else {
      queue.push({ type: 'output', bytes: new Uint8Array(data) });
      wake();
    }
  });
  const lost = () => new PodgateError('The connection to the terminal was lost', { code: 'connection_lost' });
  socket.addEventListener('error', () => end(lost()));
  socket.addEventListener('close', () => end(lost()));

  function say(message: string | Uint8Array<ArrayBuffer>): void {
    if (socket.readyState === WebSocket.OPEN) socket.send(message);
  }

  function acknowledge(): void {
    if (offset - acknowledged < ACK_BYTES) return;
    acknowledged = offset;
    say(JSON.stringify({ type: 'ack', offset }));
  }

  return {
    attached: attached.promise,
    get wasOpen() {
      return wasOpen;
    },
    get state() {
      return state as TerminalState;
    },
    get offset() {
      return offset;
    },
    write(bytes: Uint8Array<ArrayBuffer>) {
      for (let at = 0; at < bytes.byteLength; at += MAX_INPUT_BYTES)
        say(bytes.subarray(at, at + MAX_INPUT_BYTES));
    },
    resize: (rows: number, columns: number) => say(JSON.stringify({ type: 'resize', rows, columns })),
    leave,
    close: () => leave(lost()),
    async *events(): AsyncGenerator<TerminalEvent, void, undefined> {
      for (;;) {
        const event = queue.shift();
        if (event) {
          if (event.type === 'gap') offset = acknowledged = event.to;
          yield event;
          if (event.type === 'exit') return;
          if (event.type === 'output') offset += event.bytes.byteLength;
          acknowledge();
        } else if (ended === 'exit') return;
        else if (ended) throw ended.why;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    },
  };
}
