import type { WebSocket } from 'ws';
import { closeCode } from '../../shared/errors.ts';

/** ws closes with these when a message is over `maxPayload`, or in more pieces than it may be; Podgate has a code of its own for both. */
const WS_TOO_LARGE: ReadonlySet<number | undefined> = new Set([1009, 1008]);
/** A peer that does not finish the closing handshake is cut off. */
const CLOSE_TIMEOUT_MS = 5_000;

/** ws chooses its close code by itself when a message is too large, through the socket's own `close`. */
export function nameOversizedMessages(webSocket: WebSocket): void {
  const close = webSocket.close.bind(webSocket);
  webSocket.close = (code, reason) =>
    WS_TOO_LARGE.has(code) ? close(closeCode('too_large'), 'too_large') : close(code, reason);
}

/** Closes it, and ends it where the peer does not. */
export function closeSocket(webSocket: WebSocket, code: number, reason: string): void {
  webSocket.close(code, reason);
  terminateAfter(webSocket, CLOSE_TIMEOUT_MS);
}

/** Ends it unless it closes by itself before. */
export function terminateAfter(webSocket: WebSocket, timeoutMs: number): void {
  const timer = setTimeout(() => webSocket.terminate(), timeoutMs);
  webSocket.once('close', () => clearTimeout(timer));
}
