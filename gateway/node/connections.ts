import type { Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Failure } from '../../shared/errors.ts';
import { answerRaw } from './raw-answer.ts';

const RETRY_MS = 1_000;

/**
 * The connections of an HTTP server, upgraded ones among them. `answering`: answers that are due; a connection without one
 * is idle. `cut` ends all connections at once.
 *
 * `dismiss` writes a refusal on each idle one and ends it. HTTP/1.1 cannot tell a client that its connection ends: what it
 * asks in that instant would be lost, and it would not know whether it was done. If it has just asked, the refusal is its
 * answer; if not, it drops a connection that speaks first.
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
