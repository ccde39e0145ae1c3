import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { watchIdleConnections } from '../../gateway/node/idle-connections.ts';

test('a connection on which a second request is being answered is not idle, though the first is answered', async () => {
  const answering = new Set<ServerResponse>();
  const answers: ServerResponse[] = [];
  const server = createServer((_, outgoing) => {
    answering.add(outgoing);
    outgoing.once('close', () => answering.delete(outgoing));
    answers.push(outgoing);
  });
  const idle = watchIdleConnections(server, answering);
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
  idle.dismiss();
  answers[1]?.end('second');
  await expect.poll(() => heard).toContain('second');
  expect(heard).not.toContain('503');

  idle.dismiss();
  await once(socket, 'close');
  expect(heard).toMatch(/second[\s\S]*HTTP\/1\.1 503/);
});
