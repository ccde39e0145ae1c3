import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { watchConnections } from '../../gateway/node/connections.ts';

test('a connection on which a second request is being answered is not idle, though the first is answered', async () => {
  const answering = new Set<ServerResponse>();
  const answers: ServerResponse[] = [];
  const server = createServer((_, outgoing) => {
    answering.add(outgoing);
    outgoing.once('close', () => answering.delete(outgoing));
    answers.push(outgoing);
  });
  const connections = watchConnections(server, answering);
  server.listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  let heard = '';
  socket.on('data', (chunk) => {
    heard += chunk;
  });
  socket.write('GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n');
  await expect.poll(() => answers.length).toBe(2);
  answers[0]?.end('first');
  await expect.poll(() => heard).toContain('first');
  connections.dismiss();
  answers[1]?.end('second');
  await expect.poll(() => heard).toContain('second');
  expect(heard).not.toContain('503');

  connections.dismiss();
  await once(socket, 'close');
  expect(heard).toMatch(/second[\s\S]*HTTP\/1\.1 503/);
});

test('an upgraded connection is not dismissed, and is cut with the others', async () => {
  const server = createServer();
  const connections = watchConnections(server, new Set());
  server.on('upgrade', (_, socket) => socket.write('yours'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  expect(String(await once(socket, 'data'))).toBe('yours');
  let heard = '';
  socket.on('data', (chunk) => {
    heard += chunk;
  });
  const closed = new Promise((resolve) => server.close(resolve));
  connections.dismiss();
  connections.cut();
  await Promise.all([once(socket, 'close'), closed]);
  expect(heard).toBe('');
});
