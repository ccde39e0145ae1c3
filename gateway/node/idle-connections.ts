import type { Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Failure } from '../../shared/errors.ts';
import { answerRaw } from './raw-answer.ts';

const RETRY_MS = 1_000;

/**
 * Connections of an HTTP server on which none of `answering` is due. HTTP/1.1 cannot tell a client that one of them ends:
 * what is asked in that instant would be lost with it, and nobody would know whether it was done. `dismiss` writes a
 * refusal on each and ends it. To whoever has just asked that is the answer; whoever has not drops a connection that
 * speaks first.
 */
export function watchIdleConnections(
  server: Server,
  answering: ReadonlySet<ServerResponse>,
): { dismiss(): void } {
  const open = new Set<Duplex>();
  server.on('connection', (socket: Duplex) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  server.on('upgrade', ({ socket }) => open.delete(socket));
  return {
    dismiss() {
      const busy = new Set<Duplex>([...answering].map(({ req }) => req.socket));
      const failure = new Failure('draining', 'This gateway is leaving; ask again, another one answers.', {
        retryAfterMs: RETRY_MS,
      });
      for (const socket of open) if (socket.writable && !busy.has(socket)) answerRaw(socket, failure);
    },
  };
}
