import type { Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Failure } from '../../shared/errors.ts';
import { answerRaw } from './raw-answer.ts';

const RETRY_MS = 1_000;

/**
 * The connections of an HTTP server, upgraded ones among them. They are idle where none of `answering` is due. HTTP/1.1 cannot tell a client that one of them ends:
 * what is asked in that instant would be lost with it, and nobody would know whether it was done. `dismiss` writes a
 * refusal on each and ends it. To whoever has just asked that is the answer; whoever has not drops a connection that
 * speaks first. `cut` ends all of them at once.
 */
export function watchConnections(
  server: Server,
  answering: ReadonlySet<ServerResponse>,
): { dismiss(): void; cut(): void } {
  const open = new Set<Duplex>();
  const upgraded = new WeakSet<Duplex>();
  server.on('connection', (socket: Duplex) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  // The server knows an upgraded one no more, and is not closed before it has ended.
  server.on('upgrade', ({ socket }) => upgraded.add(socket));
  return {
    dismiss() {
      const busy = new Set<Duplex>([...answering].map(({ req }) => req.socket));
      const isIdle = (socket: Duplex) => socket.writable && !upgraded.has(socket) && !busy.has(socket);
      const failure = new Failure('draining', 'This gateway is leaving; ask again, another one answers.', {
        retryAfterMs: RETRY_MS,
      });
      for (const socket of open) if (isIdle(socket)) answerRaw(socket, failure);
    },
    cut() {
      for (const socket of open) socket.destroy();
    },
  };
}
