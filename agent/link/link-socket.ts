import type { Socket } from 'node:net';
import type { RawData, WebSocket } from 'ws';
import { closeCode } from '../../shared/errors.ts';
import { CLOCK_SKEW_SECONDS } from '../../shared/keys.ts';
import type { LinkSocket } from '../../shared/link-peer.ts';
import type { Clock } from '../clock.ts';
import { SUBPROTOCOL } from './dial.ts';
import type { LinkEnd } from './link-state.ts';
import { CLOSE_TIMEOUT_MS } from './timings.ts';

export type SocketHandlers = {
  opened(): void;
  message(bytes: Uint8Array): void;
  /** The peer did what no gateway does. The socket is still open. */
  broke(detail: string): void;
  /** May be called more than once. */
  closed(end: LinkEnd): void;
};

/** The WebSocket under a link, in the few words that a link needs. */
export type AgentSocket = LinkSocket & {
  /** Messages handed over that have not left the process. */
  readonly unsent: number;
  /** Ends with a close handshake, or without one when nobody answers it. */
  close(code: number, reason: string): void;
  terminate(): void;
};

export function createAgentSocket(socket: WebSocket, clock: Clock, handlers: SocketHandlers): AgentSocket {
  let tcp: Socket | undefined;
  let corked = false;
  let unsent = 0;
  let opened = false;
  /** How far this machine's clock is ahead of the gateway's, or of the proxy's that answers for it. */
  let aheadMs: number | undefined;

  socket.on('upgrade', (response) => {
    tcp = response.socket;
    const date = Date.parse(response.headers.date ?? '');
    if (!Number.isNaN(date)) aheadMs = clock.wall() - date;
  });
  socket.on('open', () => {
    opened = true;
    if (socket.protocol === SUBPROTOCOL) handlers.opened();
    else handlers.broke('the gateway did not agree to the subprotocol');
  });
  socket.on('message', (data: RawData, isBinary: boolean) => {
    if (isBinary) handlers.message(data as Buffer);
    else handlers.broke('a text message');
  });
  socket.on('unexpected-response', (request, response) => {
    request.destroy();
    const detail = `The gateway at ${whereOf(socket)} answered ${response.statusCode} instead of an upgrade.`;
    handlers.closed({ code: 'unreachable', detail });
  });
  // Stays for good: a socket that is terminated while it connects reports that here.
  socket.on('error', (error: NodeJS.ErrnoException) => {
    const why = error.code ?? error.message;
    if (opened) handlers.closed({ code: 'lost', detail: why });
    else handlers.closed({ code: 'unreachable', detail: `No link to ${whereOf(socket)}: ${why}.` });
  });
  socket.on('close', (code, reason) => {
    const said = reason.length > 0 ? ` (${printable(reason)})` : '';
    const why = code === closeCode('unauthorized') ? clockText(aheadMs) : '';
    handlers.closed({ code: 'lost', detail: `The gateway closed with ${code}${said}.${why}` });
  });

  /** What one turn of the event loop sends leaves in one system call. */
  function cork(stream: Socket): void {
    corked = true;
    stream.cork();
    process.nextTick(() => {
      corked = false;
      stream.uncork();
    });
  }

  return {
    get unsent() {
      return unsent;
    },
    send(message, sent) {
      if (tcp && !corked) cork(tcp);
      unsent += 1;
      socket.send(message, { binary: true }, () => {
        unsent -= 1;
        sent();
      });
    },
    close(code, reason) {
      socket.close(code, reason.slice(0, 100));
      const cancel = clock.after(CLOSE_TIMEOUT_MS, () => socket.terminate());
      socket.once('close', cancel);
    },
    terminate() {
      if (socket.readyState !== socket.CLOSING && socket.readyState !== socket.CLOSED) socket.terminate();
    },
  };
}

/** What was dialled, without a user name and a password that its URL may hold. */
function whereOf({ url }: WebSocket): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}

/** Empty where clocks are no reason to refuse a token or a proof. */
function clockText(aheadMs = 0): string {
  const seconds = Math.round(Math.abs(aheadMs) / 1_000);
  if (seconds <= CLOCK_SKEW_SECONDS) return '';
  return ` This machine's clock is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} the gateway's: set both by NTP.`;
}

/** A peer's words for the log: printable ASCII, short. */
function printable(reason: Buffer): string {
  return reason
    .toString('utf8')
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, 100);
}
