import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { onTestFinished } from 'vitest';

const VERSION = { ApiVersion: '1.45', MinAPIVersion: '1.24', Version: '26.1.5' };

export type Answer = (response: ServerResponse) => void;

export const says = (value: unknown, status = 200): Answer => {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return (response) => void response.writeHead(status).end(text);
};

/** The socket of an engine that knows its version, and answers everything else in one way. It ends with its test. */
export async function strangeEngine(answer: Answer, version: unknown = VERSION): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'podgate-strange-'));
  const socket = join(dir, 'docker.sock');
  const server = createServer(({ url }, response) =>
    url === '/version' ? says(version)(response) : answer(response),
  );
  const takenOver: Duplex[] = [];
  server.on('upgrade', (_request, connection: Duplex) => void takenOver.push(connection));
  server.listen(socket);
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    for (const connection of takenOver) connection.destroy();
    await new Promise((resolve) => server.close(resolve));
    await rm(dir, { recursive: true });
  });
  return socket;
}
