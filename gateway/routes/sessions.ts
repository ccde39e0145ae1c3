import type * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import {
  bashRequestSchema,
  bashResponse,
  createSessionRequest,
  extendSessionRequest,
  sessionList,
  sessionResponse,
} from '../../shared/session-api.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { collectAnswer } from '../execution/answer.ts';
import type { ExecutionOrder } from '../execution/execution-order.ts';
import type { ExecutionRun } from '../execution/execution-run.ts';
import type { MemoryBudget } from '../execution/memory-budget.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { PAGE_QUERY, readPage } from '../http/page.ts';
import { checkSchema, invalid, parseJson } from '../http/parse-json.ts';
import { jsonResponse } from '../http/problem-response.ts';
import { readBody } from '../http/read-body.ts';
import type { Route } from '../http/route.ts';
import { createSessionBook, noSession, type SessionPlace } from '../sessions/session-book.ts';
import { type Asked, createSessionOrders } from '../sessions/session-orders.ts';
import type { KeyedContext } from './execute.ts';

export type SessionRoutesDeps = Pick<
  GatewayDeps,
  'config' | 'timers' | 'fileStore' | 'ids' | 'now' | 'sha256'
> & {
  directory: ClusterDirectory;
  requestMemory: MemoryBudget;
  requireOpen(): void;
  start(order: ExecutionOrder): ExecutionRun;
};

/** `/v1/sessions*`: sandboxes that stay. */
export function createSessionRoutes(deps: SessionRoutesDeps): Route[] {
  const { config, timers, requestMemory, start } = deps;
  const bashRequest = bashRequestSchema({ maxTimeoutMs: config.maxTimeoutMs });
  const book = createSessionBook(deps);
  const orders = createSessionOrders(deps);

  async function read<S extends z.ZodType>(context: KeyedContext, schema: S): Promise<Asked<z.output<S>>> {
    const { request, caller } = context;
    const receivedAtMs = deps.now();
    const body = await readBody(request, { timers, memory: requestMemory, owner: caller.holder });
    try {
      const raw = parseJson(body.bytes);
      return { asked: checkSchema(schema, raw), raw, receivedAtMs, release: body.release };
    } catch (error) {
      body.release();
      throw error;
    }
  }

  const placeOf = ({ caller, params, pathCluster }: KeyedContext): Promise<SessionPlace> =>
    book.find(caller, params.id ?? '', pathCluster);

  /** From a request to an execution that is under way. What fails before gives the request's memory back. */
  async function begin(asked: Asked<unknown>, order: () => Promise<ExecutionOrder>): Promise<ExecutionRun> {
    try {
      deps.requireOpen();
      return start(await order());
    } catch (error) {
      asked.release();
      throw error;
    }
  }

  /** The answer of a run, which ends with its caller. */
  async function answerOf(context: KeyedContext, run: ExecutionRun) {
    const abandon = () => run.abandon();
    const { signal } = context.request;
    signal.addEventListener('abort', abandon);
    if (signal.aborted) abandon();
    try {
      return await collectAnswer(run, config.maxOutputBytes);
    } catch (error) {
      if (error instanceof Failure && error.code === 'no_session') throw noSession(context.params.id ?? '');
      throw error;
    } finally {
      signal.removeEventListener('abort', abandon);
    }
  }

  async function create(context: KeyedContext): Promise<Response> {
    const asked = await read(context, createSessionRequest);
    const run = await begin(asked, () => orders.open(context, asked));
    await answerOf(context, run);
    const { caller } = context;
    const session = await book.ask(caller, await book.find(caller, run.sessionId, null), 'get');
    return jsonResponse(session, { status: 201 });
  }

  async function bash(context: KeyedContext): Promise<Response> {
    const asked = await read(context, bashRequest);
    const run = await begin(asked, async () => orders.bash(context, await placeOf(context), asked));
    const { files: _, files_omitted, files_omitted_count, ...answer } = await answerOf(context, run);
    return jsonResponse(answer, { headers: { 'Podgate-Execution-Id': run.executionId } });
  }

  async function list({ request, caller, pathCluster }: KeyedContext): Promise<Response> {
    const { limit, cursor } = readPage(new URL(request.url).searchParams);
    if (cursor !== undefined && !/^\d{1,9}$/.test(cursor))
      throw invalid([{ path: 'cursor', message: 'cursor is not one that this list gave' }]);
    const from = Number(cursor ?? 0);
    const all = await book.list(caller, pathCluster);
    const next = from + limit;
    return jsonResponse({
      sessions: all.slice(from, next),
      next_cursor: next < all.length ? String(next) : null,
    });
  }

  const known = { 200: { description: 'The session', schema: sessionResponse } };
  const problems = [403, 404, 422, 429, 502, 503];
  return [
    {
      method: 'POST',
      path: '/v1/sessions',
      scope: 'sessions',
      handle: create,
      doc: {
        summary: 'Make a sandbox that stays',
        request: createSessionRequest,
        responses: { 201: { description: 'It stays until expires_at', schema: sessionResponse } },
        problems: [...problems, 409, 413],
      },
    },
    {
      method: 'GET',
      path: '/v1/sessions',
      scope: 'sessions',
      handle: list,
      doc: {
        summary: 'List the sessions of this principal, the oldest first',
        query: PAGE_QUERY,
        responses: { 200: { description: 'Those at agents that are connected', schema: sessionList } },
        problems,
      },
    },
    {
      method: 'GET',
      path: '/v1/sessions/{id}',
      scope: 'sessions',
      handle: async (context) => jsonResponse(await book.ask(context.caller, await placeOf(context), 'get')),
      doc: { summary: 'How long a session lives still', responses: known, problems },
    },
    {
      method: 'DELETE',
      path: '/v1/sessions/{id}',
      scope: 'sessions',
      handle: async (context) => {
        await book.ask(context.caller, await placeOf(context), 'end');
        return new Response(null, { status: 204 });
      },
      doc: {
        summary: 'End a session and all that runs in it',
        responses: { 204: { description: 'It is gone' } },
        problems,
      },
    },
    {
      method: 'POST',
      path: '/v1/sessions/{id}/extend',
      scope: 'sessions',
      handle: async (context) => {
        const { asked, release } = await read(context, extendSessionRequest);
        release();
        const place = await placeOf(context);
        return jsonResponse(await book.ask(context.caller, place, 'extend', asked.ttl_seconds * 1_000));
      },
      doc: {
        summary:
          'Let a session live so long from now; never shorter than it would, nor more than a day in all',
        request: extendSessionRequest,
        responses: known,
        problems: [...problems, 413],
      },
    },
    {
      method: 'POST',
      path: '/v1/sessions/{id}/bash',
      scope: 'sessions',
      handle: bash,
      doc: {
        summary: 'Run a shell command in a session',
        request: bashRequest,
        responses: { 200: { description: 'The command ended', schema: bashResponse } },
        problems: [...problems, 409, 413],
      },
    },
  ];
}
