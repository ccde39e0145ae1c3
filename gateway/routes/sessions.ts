import {
  bashRequestSchema,
  bashResponse,
  createSessionRequest,
  createSessionResponse,
} from '../../shared/api.ts';
import { Failure } from '../../shared/errors.ts';
import type { Caller } from '../auth/caller.ts';
import { notFoundForPath } from '../execution/execution-input.ts';
import type { MemoryBudget } from '../execution/memory-budget.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { checkSchema, parseJson } from '../http/parse-json.ts';
import { readBody } from '../http/read-body.ts';
import type { Route, RouteContext } from '../http/route.ts';

export type SessionRoutesDeps = Pick<GatewayDeps, 'config' | 'timers' | 'fileStore'> & {
  requestMemory: MemoryBudget;
};

type KeyedContext = RouteContext & { caller: Caller };

/** `/v1/sessions*`: validation, then files, then 501 as long as there are no sessions; so no session is ever found. */
export function createSessionRoutes({
  config,
  timers,
  fileStore,
  requestMemory,
}: SessionRoutesDeps): Route[] {
  const bashRequest = bashRequestSchema({ maxTimeoutMs: config.maxTimeoutMs });

  const readJson = async ({ request, caller }: KeyedContext): Promise<unknown> => {
    const body = await readBody(request, { timers, memory: requestMemory, owner: caller.holder });
    try {
      return parseJson(body.bytes);
    } finally {
      body.release();
    }
  };
  const unknown = ({ params }: KeyedContext) =>
    new Failure('not_found', `Session '${(params.id ?? '').slice(0, 64)}' not found`);

  return [
    {
      method: 'POST',
      path: '/v1/sessions',
      scope: 'sessions',
      handle: async (context) => {
        const { files } = checkSchema(createSessionRequest, await readJson(context));
        for (const { file_id, path } of files) {
          if (file_id === undefined) continue;
          await fileStore.stat(context.caller.principal, file_id).catch((error: unknown) => {
            throw notFoundForPath(error, file_id, path);
          });
        }
        throw new Failure('not_implemented', 'Sessions are not available yet.');
      },
      doc: {
        summary: 'Make a sandbox that stays',
        request: createSessionRequest,
        responses: { 201: { description: 'It stays until expires_at', schema: createSessionResponse } },
        problems: [403, 404, 413, 422, 429, 501],
      },
    },
    {
      method: 'DELETE',
      path: '/v1/sessions/{id}',
      scope: 'sessions',
      handle: (context) => {
        throw unknown(context);
      },
      doc: {
        summary: 'End a session',
        responses: { 204: { description: 'It is gone' } },
        problems: [403, 404, 429],
      },
    },
    {
      method: 'POST',
      path: '/v1/sessions/{id}/bash',
      scope: 'sessions',
      handle: async (context) => {
        checkSchema(bashRequest, await readJson(context));
        throw unknown(context);
      },
      doc: {
        summary: 'Run a shell command in a session',
        request: bashRequest,
        responses: { 200: { description: 'The command ended', schema: bashResponse } },
        problems: [403, 404, 413, 422, 429],
      },
    },
  ];
}
