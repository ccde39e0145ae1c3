import type { Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { Failure } from '../../shared/errors.ts';
import { answerRaw } from './raw-answer.ts';

const RETRY_MS = 1_000;

/**
 * Connections of an HTTP server on which nothing is asked. HTTP/1.1 cannot tell a client that one of them ends: what is
 * asked in that instant would be lost with it, and nobody would know whether it was done. `dismiss` writes a refusal on
 * each and ends it. To whoever has just asked that is the answer; whoever has not drops a connection that speaks first.
 */
export function watchIdleConnections(server: Server): { dismiss(): void } {
  const idle = new Set<Duplex>();
  server.on('connection', (socket: Duplex) => {
    idle.add(socket);
    socket.once('close', () => idle.delete(socket));
  });
  server.on('request', ({ socket }, outgoing) => {
    idle.delete(socket);
    outgoing.once('close', () => {
      if (socket.writable) idle.add(socket);
    });
  });
  server.on('upgrade', ({ socket }) => idle.delete(socket));
  return {
    dismiss() {
      const failure = new Failure('draining', 'This gateway is leaving; ask again, another one answers.', {
        retryAfterMs: RETRY_MS,
      });
      for (const socket of idle) answerRaw(socket, failure);
      idle.clear();
    },
  };
}
