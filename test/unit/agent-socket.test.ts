import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { createAgentSocket } from '../../agent/link/link-socket.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

test('a link that closed leaves no timer', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  onTestFinished(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const clock = createFakeClock();
  const socket = new WebSocket(`ws://127.0.0.1:${port}`);
  const over = Promise.withResolvers<void>();
  const handlers = { opened() {}, broke() {}, message() {}, closed: () => over.resolve() };
  const link = createAgentSocket(socket, clock, handlers);
  await once(socket, 'open');
  link.close(1000, 'over');
  expect(clock.pending).toBe(1);
  await over.promise;
  expect(clock.pending).toBe(0);
});
