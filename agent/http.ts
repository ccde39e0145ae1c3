import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Failure } from '../shared/errors.ts';
import type { Metrics } from './metrics.ts';

/** Why an agent cannot serve now; empty when it can. */
export type Readiness = () => readonly string[];

export type AgentHttpDeps = { host: string; port: number; metrics: Metrics; readiness: Readiness };

/** The agent's own HTTP port: probes and metrics, nothing that changes anything. */
export type AgentHttp = { readonly port: number; close(): Promise<void> };

/** Listens. Rejects with a Failure that names the address. */
export async function serveAgentHttp({ host, port, metrics, readiness }: AgentHttpDeps): Promise<AgentHttp> {
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 5_000 }, (request, response) => {
    const path = (request.url ?? '').split('?', 1)[0];
    if (request.method !== 'GET' && request.method !== 'HEAD')
      answer(response, 405, 'Only GET is served here.\n');
    else if (path === '/livez') answer(response, 200, 'ok\n');
    else if (path === '/readyz') ready(response, readiness());
    else if (path === '/metrics') void scrape(response, metrics);
    else answer(response, 404, 'Not found: use /livez, /readyz or /metrics.\n');
  });
  server.maxConnections = 64;
  await listen(server, host, port);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    // For as long as it listens: a connection that cannot be taken later is lost, and must not end the process.
    server.on('error', (cause: NodeJS.ErrnoException) => {
      const why = cause.code ?? cause.message;
      const detail = `The agent cannot listen on ${host}:${port} (${why}). Choose another port with PODGATE_AGENT_PORT.`;
      reject(new Failure('internal', detail, { cause }));
    });
    server.listen(port, host, resolve);
  });
}

function ready(response: ServerResponse, obstacles: readonly string[]): void {
  if (obstacles.length === 0) answer(response, 200, 'ok\n');
  else answer(response, 503, `${obstacles.join('\n')}\n`);
}

async function scrape(response: ServerResponse, metrics: Metrics): Promise<void> {
  try {
    answer(response, 200, await metrics.render(), metrics.contentType);
  } catch {
    answer(response, 500, 'The metrics cannot be read.\n');
  }
}

function answer(
  response: ServerResponse,
  status: number,
  text: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'Content-Type': type, 'Cache-Control': 'no-store' }).end(text);
}
