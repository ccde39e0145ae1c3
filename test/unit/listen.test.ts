import { createServer } from 'node:http';
import { Server } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { serveAgentHttp } from '../../agent/http.ts';
import { listen } from '../../gateway/node/listen.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serveGatewayPort(): Promise<number> {
  const server = createServer((_request, response) => response.end('ok\n'));
  cleanups.push(() => server.close());
  return listen(server, '127.0.0.1', 0, 'PORT');
}

async function serveAgentPort(): Promise<number> {
  const metrics = { contentType: 'text/plain', render: async () => 'ok\n' };
  const deps = { host: '127.0.0.1', port: 0, metrics, readiness: () => [] };
  const http = await serveAgentHttp(deps as unknown as Parameters<typeof serveAgentHttp>[0]);
  cleanups.push(http.close);
  return http.port;
}

test.for([
  ['gateway', serveGatewayPort],
  ['agent', serveAgentPort],
] as const)('a %s that can take no more connections for a while ends nothing', async ([, serve]) => {
  const listens = vi.spyOn(Server.prototype, 'listen');
  cleanups.push(() => listens.mockRestore());
  const port = await serve();
  const [server] = listens.mock.contexts;
  // What Node says of each connection that it cannot accept.
  for (let times = 0; times < 2; times += 1) (server as Server).emit('error', new Error('accept ENFILE'));
  expect(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()).toBe('ok\n');
});
