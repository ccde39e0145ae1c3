import { healthResponse } from '../../shared/api.ts';
import { Failure } from '../../shared/errors.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { jsonResponse } from '../http/problem-response.ts';
import type { Route } from '../http/route.ts';

export type HealthRoutesDeps = { version: string; directory: ClusterDirectory; draining(): boolean };

/** `GET /health`, which is 200 whatever is wrong, and `GET /ready`, which is 503 when nothing can run. */
export function createHealthRoutes({ version, directory, draining }: HealthRoutesDeps): Route[] {
  const trouble = (): string | null => {
    if (draining()) return 'Shutting down.';
    if (directory.linkCount === 0) return 'No agent is connected.';
    return directory.canRun() ? null : 'No agent has a template that can run now.';
  };
  return [
    {
      method: 'GET',
      path: '/health',
      scope: null,
      handle: () => {
        const message = directory.linkCount === 0 ? 'No agent is connected.' : null;
        return jsonResponse({ status: message === null ? 'ok' : 'error', message, version });
      },
      doc: {
        summary: 'Whether the service is up and an agent is connected',
        responses: { 200: { description: 'Always', schema: healthResponse } },
      },
    },
    {
      method: 'GET',
      path: '/ready',
      scope: null,
      handle: () => {
        const message = trouble();
        if (message !== null) throw new Failure(draining() ? 'draining' : 'no_agent', message);
        return jsonResponse({ status: 'ok', message: null, version });
      },
      doc: {
        summary: 'Whether something can run now',
        responses: { 200: { description: 'It can', schema: healthResponse } },
        problems: [503],
      },
    },
  ];
}
