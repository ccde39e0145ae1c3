import { createServer, type Server } from 'node:http';
import type { GatewayMetrics } from './metrics.ts';

/** `GET /metrics` on a port of its own: it has no key, so it must not be where callers are. */
export function createMetricsServer(metrics: GatewayMetrics): Server {
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 5_000 }, async (request, response) => {
    const path = (request.url ?? '').split('?', 1)[0];
    if (path !== '/metrics' || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(404, { 'Content-Type': 'text/plain; charset=utf-8' }).end('Use GET /metrics.\n');
      return;
    }
    try {
      const text = await metrics.render();
      response.writeHead(200, { 'Content-Type': metrics.contentType, 'Cache-Control': 'no-store' }).end(text);
    } catch {
      response.writeHead(500).end();
    }
  });
  server.maxConnections = 64;
  return server;
}
