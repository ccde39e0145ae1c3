import * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { fromBase64Url } from '../../shared/jose.ts';
import { terminalName, terminalSize } from '../../shared/session-messages.ts';
import { checkSchema } from '../http/parse-json.ts';

export const TERMINAL_SUBPROTOCOL = 'podgate.terminal.v1';
/** Browsers set no headers on a WebSocket, and a key in a URL ends in logs: it comes among the subprotocols. */
const KEY_SUBPROTOCOL = 'podgate.key.';
/** The same for `Podgate-User`, in base64url. */
const USER_SUBPROTOCOL = 'podgate.user.';

const PATH = /^(?:\/clusters\/([^/]+))?\/v1\/sessions\/([^/]+)\/terminals\/([^/]+)$/;

const decimal = z
  .string()
  .regex(/^\d{1,15}$/, 'use a whole number')
  .transform(Number);

const query = z.object({
  rows: decimal.pipe(terminalSize.shape.rows).default(24),
  columns: decimal.pipe(terminalSize.shape.columns).default(80),
  /** Bytes of output that the caller has. */
  offset: decimal.default(0),
  /** The terminal that the caller had before, by the id that it was told: no other is opened. */
  resume: z.string().min(1).max(1_024).nullable().default(null),
  /** `false`: only one that there is. */
  create: z
    .enum(['true', 'false'])
    .default('true')
    .transform((text) => text === 'true'),
  /** Who types: input is counted for each. */
  writer: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'use 1 to 64 of A-Z, a-z, 0-9, _ and -')
    .default('terminal'),
  term: z
    .string()
    .regex(/^[A-Za-z0-9._+-]{1,64}$/, 'use the name of a terminal type, such as xterm-256color')
    .default('xterm-256color'),
});

export type TerminalAsk = z.output<typeof query> & {
  /** Whether it says a size: a terminal that is there keeps its own otherwise. */
  isSized: boolean;
  session: string;
  name: string;
  pathCluster: string | null;
};

/** Whether a path is a terminal's. */
export function isTerminalPath(path: string): boolean {
  return PATH.test(path);
}

/** How the terminal is to be. Throws `invalid_request`. */
export function readTerminalQuery({ searchParams }: URL): z.output<typeof query> {
  return checkSchema(query, Object.fromEntries(searchParams));
}

/** What a request for a terminal asks for. Throws `invalid_request`, 404 for a path that is none. */
export function readTerminalAsk(url: URL): TerminalAsk {
  const found = PATH.exec(url.pathname);
  if (!found) throw new Failure('not_found', 'There is nothing here.');
  const [, pathCluster = null, session = '', name = ''] = found;
  return {
    ...readTerminalQuery(url),
    isSized: url.searchParams.has('rows') || url.searchParams.has('columns'),
    session: decoded(session),
    name: checkSchema(terminalName, decoded(name)),
    pathCluster: pathCluster === null ? null : decoded(pathCluster),
  };
}

/** The request with what its subprotocols say as headers, beside those that it has: two different keys stay two. */
export function withSubprotocolKey(request: Request): Request {
  const headers = new Headers(request.headers);
  const offered = offeredSubprotocols(headers);
  if (!offered.includes(TERMINAL_SUBPROTOCOL))
    throw new Failure('invalid_request', `Name the subprotocol ${TERMINAL_SUBPROTOCOL}.`);
  for (const name of offered) {
    if (name.startsWith(KEY_SUBPROTOCOL)) headers.append('x-api-key', name.slice(KEY_SUBPROTOCOL.length));
    if (name.startsWith(USER_SUBPROTOCOL) && !headers.has('podgate-user'))
      headers.set('podgate-user', userOf(name.slice(USER_SUBPROTOCOL.length)));
  }
  headers.delete('sec-websocket-protocol');
  return new Request(request.url, { headers });
}

function offeredSubprotocols(headers: Headers): string[] {
  return (headers.get('sec-websocket-protocol') ?? '').split(',').map((name) => name.trim());
}

/** What is no name of a user stays none: the authenticator says what one is. */
function userOf(text: string): string {
  const bytes = fromBase64Url(text) ?? new Uint8Array(0);
  return new TextDecoder('latin1').decode(bytes).replace(/[^\x20-\x7e]/g, '\u00ff');
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Failure('not_found', 'There is nothing here.');
  }
}
