import { Failure } from '../../shared/errors.ts';
import {
  createSessionRequest,
  extendSessionRequest,
  sessionList,
  sessionResponse,
} from '../../shared/session-api.ts';
import { PAGE_QUERY } from '../http/page.ts';
import { jsonResponse } from '../http/problem-response.ts';
import type { KeyedContext, Route } from '../http/route.ts';
import { describeOpened, endUntold } from '../sessions/opened-session.ts';
import { commandResultOf } from '../sessions/session-answer.ts';
import { createSessionBook, type SessionPlace } from '../sessions/session-book.ts';
import { createSessionOrders } from '../sessions/session-orders.ts';
import { collectSessionPage, readSessionPage } from '../sessions/session-page.ts';
import { createSessionRequests, type SessionRequestsDeps } from '../sessions/session-requests.ts';
import { createSessionFileRoutes } from './session-files.ts';
import { createSessionTerminalRoutes } from './session-terminals.ts';
import { createSessionWorkRoutes } from './session-work.ts';
import { CLUSTER_HEADER } from './take-order.ts';

/** `/v1/sessions*`: sandboxes that stay. */
export function createSessionRoutes(deps: SessionRequestsDeps): Route[] {
  const requests = createSessionRequests(deps);
  const book = createSessionBook(deps);
  const orders = createSessionOrders(deps);
  const opened = { ...deps, book };

  const placeOf = ({ caller, params, pathCluster }: KeyedContext): Promise<SessionPlace> =>
    book.find(caller, params.id ?? '', pathCluster);

  async function create(context: KeyedContext): Promise<Response> {
    const asked = await requests.read(context, createSessionRequest);
    const run = await requests.begin(asked, () => orders.open(context, asked));
    const { caller, request } = context;
    try {
      await requests.collect(context, run, commandResultOf);
      const session = await describeOpened(opened, caller, run);
      if (request.signal.aborted) throw new Failure('cancelled', 'The caller went away.', { started: 'yes' });
      return jsonResponse(session, { status: 201 });
    } catch (error) {
      if (run.sessionId !== '') void endUntold(opened, caller, run);
      throw error;
    }
  }

  async function list({ request, caller, pathCluster }: KeyedContext): Promise<Response> {
    const collector = collectSessionPage(readSessionPage(new URL(request.url).searchParams));
    await book.list(caller, pathCluster, collector);
    return jsonResponse(collector.page());
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
        headers: CLUSTER_HEADER,
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
        summary:
          'List the sessions of this principal, the oldest first, at all agents that have a link to the replica that is asked',
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
        await book.end(context.caller, await placeOf(context));
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
        const { asked, release } = await requests.read(context, extendSessionRequest);
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
    ...createSessionWorkRoutes(deps, book),
    ...createSessionFileRoutes(deps, book),
    ...createSessionTerminalRoutes(deps, book),
  ];
}
