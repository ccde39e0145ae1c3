import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import { MAX_MESSAGE_CHUNKS, MAX_MESSAGE_FRAGMENTS, MAX_TERMINAL_INPUT_BYTES } from '../../shared/limits.ts';
import type { Gateway } from '../create-gateway.ts';
import { toFailure } from '../http/problem-response.ts';
import { TERMINAL_SUBPROTOCOL } from '../terminals/terminal-request.ts';
import type { OpenedTerminal, TerminalSocketPort } from '../terminals/terminal-socket.ts';
import { answerRaw, rawRequestId } from './raw-answer.ts';
import { closeSocket, nameOversizedMessages } from './ws-socket.ts';

/** A peer that has not answered the last ping by the next is gone. */
const PING_MS = 20_000;

/** WebSockets on which terminals of sessions are shown. */
export function createTerminalUpgrades({ pingMs = PING_MS }: { pingMs?: number } = {}) {
  const sockets = new WebSocketServer({
    noServer: true,
    clientTracking: true,
    perMessageDeflate: false,
    maxPayload: MAX_TERMINAL_INPUT_BYTES,
    maxFragments: MAX_MESSAGE_FRAGMENTS,
    maxBufferedChunks: MAX_MESSAGE_CHUNKS,
    // One message a turn: nothing else holds a peer back that sends sizes and acknowledgements without end.
    allowSynchronousEvents: false,
    handleProtocols: () => TERMINAL_SUBPROTOCOL,
  });

  async function open(
    gateway: Gateway,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): Promise<void> {
    const requestId = rawRequestId(request);
    let opened: OpenedTerminal;
    try {
      opened = await gateway.openTerminal(requestOf(request, requestId));
    } catch (error) {
      answerRaw(socket, toFailure(error), requestId);
      return;
    }
    let isTaken = false;
    socket.once('close', () => {
      if (!isTaken) opened.drop();
    });
    if (socket.destroyed) {
      opened.drop();
      return;
    }
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      isTaken = true;
      join(webSocket, opened, pingMs);
    });
  }

  return {
    open: (...upgrade: Parameters<typeof open>) => void open(...upgrade),
    close() {
      for (const webSocket of sockets.clients) webSocket.terminate();
      sockets.close();
    },
  };
}

function join(webSocket: WebSocket, opened: OpenedTerminal, pingMs: number): void {
  let isAlive = true;
  const heard = () => {
    isAlive = true;
  };
  const pings = setInterval(() => {
    // Whoever is not read has no pong to be heard by: its program takes no input.
    if (!isAlive && !webSocket.isPaused) webSocket.terminate();
    isAlive = false;
    webSocket.ping();
  }, pingMs);
  webSocket.on('pong', heard);
  nameOversizedMessages(webSocket);
  webSocket.on('error', () => {});
  const handlers = opened.take(portOf(webSocket, heard));
  webSocket.on('message', (data: RawData, isBinary: boolean) => {
    handlers.message(isBinary ? (data as Buffer) : data.toString());
  });
  webSocket.on('close', () => {
    clearInterval(pings);
    handlers.closed();
  });
}

function portOf(webSocket: WebSocket, heard: () => void): TerminalSocketPort {
  return {
    send(message) {
      if (webSocket.readyState === webSocket.OPEN)
        webSocket.send(message, { binary: typeof message !== 'string' });
    },
    hold: () => webSocket.pause(),
    go() {
      heard();
      webSocket.resume();
    },
    close(code, reason) {
      webSocket.resume();
      closeSocket(webSocket, code, reason);
    },
  };
}

/** The request as the core knows requests: of two keys both come, as they do without an upgrade. Its host says nothing: any will do. */
function requestOf({ headersDistinct, url = '/' }: IncomingMessage, requestId: string): Request {
  const copied = new Headers();
  for (const [name, values = []] of Object.entries(headersDistinct))
    if (name !== 'connection' && name !== 'upgrade') for (const value of values) copied.append(name, value);
  copied.set('x-request-id', requestId);
  return new Request(new URL(url, 'http://gateway'), { headers: copied });
}
