import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import { Failure } from '../../shared/errors.ts';
import {
  MAX_HELLO_BYTES,
  MAX_MESSAGE_BYTES,
  MAX_MESSAGE_CHUNKS,
  MAX_MESSAGE_FRAGMENTS,
} from '../../shared/limits.ts';
import type { Gateway } from '../create-gateway.ts';
import type { AcceptedLink, LinkSocketPort } from '../link/link-socket.ts';
import { AGENT_LINK_PATH, AGENT_SUBPROTOCOL } from '../routes/agents.ts';
import { isTerminalPath } from '../terminals/terminal-request.ts';
import { answerRaw, rawRequestId } from './raw-answer.ts';
import { createTerminalUpgrades } from './terminal-upgrade.ts';
import { closeSocket, nameOversizedMessages, terminateAfter } from './ws-socket.ts';

/** What anybody may send before WELCOME: HELLO, and the WebSocket's own frames around it. */
const MAX_GREETING_BYTES = MAX_HELLO_BYTES + 1_024;
/** Behind so many messages of one link the others have their turn, once what was read with them is dealt with. */
export const MESSAGES_A_TURN = 256;
/** Whoever sends more is read no further, and has this long to see why. */
const LINGER_MS = 1_000;

/**
 * Upgrades agents and terminals on a server's sockets and refuses every other upgrade; what comes before there is a
 * gateway waits for it. Call `close` to end those that are left.
 */
export function acceptUpgrades(server: Server, opening: Promise<Gateway>): { close(): void } {
  const sockets = new WebSocketServer({
    noServer: true,
    clientTracking: true,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    maxFragments: MAX_MESSAGE_FRAGMENTS,
    maxBufferedChunks: MAX_MESSAGE_CHUNKS,
    skipUTF8Validation: true,
    handleProtocols: () => AGENT_SUBPROTOCOL,
  });
  // As every other answer has it: an agent that is refused sees whether its clock is why.
  sockets.on('headers', (headers) => headers.push(`Date: ${new Date().toUTCString()}`));
  const terminals = createTerminalUpgrades();
  let opened: Gateway | undefined;
  void opening.then((gateway) => {
    opened = gateway;
  });
  server.on('upgrade', async (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    const gateway = opened ?? (await opening);
    if (isTerminalPath((request.url ?? '').split('?', 1)[0] ?? '')) {
      terminals.open(gateway, request, socket, head);
      return;
    }
    const refusal = refusalOf(request, gateway);
    if (refusal) answerRaw(socket, refusal, rawRequestId(request));
    else sockets.handleUpgrade(request, socket, head, (webSocket) => join(webSocket, socket, gateway));
  });
  return {
    close() {
      for (const webSocket of sockets.clients) webSocket.terminate();
      sockets.close();
      terminals.close();
    },
  };
}

function refusalOf(request: IncomingMessage, gateway: Gateway): Failure | null {
  const { headers, url = '' } = request;
  const [path] = url.split('?', 1);
  if (path !== AGENT_LINK_PATH) return new Failure('not_found', 'There is nothing here.');
  // No browser is an agent.
  if (headers.origin !== undefined) return new Failure('forbidden', 'A browser cannot be an agent.');
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  if (!offered.includes(AGENT_SUBPROTOCOL))
    return new Failure('invalid_request', `Name the subprotocol ${AGENT_SUBPROTOCOL}.`);
  if (!gateway.acceptsLinks())
    return new Failure('draining', 'No more agents are taken right now.', { retryAfterMs: 5_000 });
  return null;
}

function join(webSocket: WebSocket, socket: Duplex, gateway: Gateway): void {
  nameOversizedMessages(webSocket);
  const link = gateway.acceptLink(portOf(webSocket, socket));
  webSocket.on('message', (data: RawData, isBinary: boolean) => {
    link.message(isBinary ? (data as Buffer) : data.toString());
  });
  webSocket.on('error', () => {});
  webSocket.on('close', () => link.closed());
  boundGreeting(webSocket, socket, link);
  giveTurns(webSocket, link);
}

/** Node reads on while a socket has more, megabytes in one turn: an agent that floods would leave nobody else any. */
function giveTurns(webSocket: WebSocket, link: AcceptedLink): void {
  let heard = 0;
  const count = () => {
    heard += 1;
    if (!link.joined || heard % MESSAGES_A_TURN !== 0) return;
    webSocket.pause();
    setImmediate(() => webSocket.resume());
  };
  for (const event of ['message', 'ping', 'pong']) webSocket.on(event, count);
}

/** ws keeps a message until it is whole: `maxPayload` is what an agent may send, and too much for nobody knows whom. */
function boundGreeting(webSocket: WebSocket, socket: Duplex, link: AcceptedLink): void {
  let bytes = 0;
  const count = (chunk: Buffer) => {
    bytes += chunk.byteLength;
    if (!link.joined && bytes <= MAX_GREETING_BYTES) return;
    socket.off('data', count);
    if (link.joined) return;
    link.close('too_large');
    webSocket.pause();
    terminateAfter(webSocket, LINGER_MS);
  };
  socket.on('data', count);
}

function portOf(webSocket: WebSocket, socket: Duplex): LinkSocketPort {
  let corked = false;
  return {
    send(message, sent) {
      if (webSocket.readyState !== webSocket.OPEN) {
        queueMicrotask(sent);
        return;
      }
      // The frames of one turn leave in one write: START, code and END would be three system calls otherwise.
      if (!corked) {
        corked = true;
        socket.cork();
        process.nextTick(() => {
          corked = false;
          socket.uncork();
        });
      }
      webSocket.send(message, { binary: true }, () => sent());
    },
    close: (code, reason) => closeSocket(webSocket, code, reason),
    terminate: () => webSocket.terminate(),
  };
}
