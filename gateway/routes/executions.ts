import { errorEvent, executionStatus, gapEvent, outputEvent } from '../../shared/api.ts';
import { Failure } from '../../shared/errors.ts';
import { readResultEvent } from '../../shared/session-api.ts';
import { askInstance } from '../clusters/ask-instance.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { createBeginnings } from '../execution/beginnings.ts';
import type { ReceivedBytes } from '../execution/check-exit.ts';
import { describeExecution } from '../execution/describe-execution.ts';
import { eventResponse, FROM_THE_START } from '../execution/event-stream.ts';
import { readEventId } from '../execution/event-text.ts';
import type { ExecutionFollower, FollowOrder } from '../execution/execution-follower.ts';
import { openOwn, unknownExecution } from '../execution/own-execution.ts';
import { CANCEL_TIMEOUT_MS, STATUS_TIMEOUT_MS } from '../execution/sister-link.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { jsonResponse } from '../http/problem-response.ts';
import type { KeyedContext, Route } from '../http/route.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { StatusAnswer } from '../link/status-asks.ts';
import { readResultOf } from '../sessions/session-answer.ts';

export type ExecutionRoutesDeps = Pick<GatewayDeps, 'ids' | 'now' | 'timers'> & {
  directory: ClusterDirectory;
  /** Throws where it cannot be read here. */
  follow(order: FollowOrder): ExecutionFollower;
};

/** `/v1/executions/{id}` and its events: the id alone says which instance to ask. */
export function createExecutionRoutes(deps: ExecutionRoutesDeps): Route[] {
  const { ids, now, timers, directory, follow } = deps;
  const beganMs = createBeginnings(now);
  const ask = async (
    { params, caller }: KeyedContext,
    question: (link: GatewayLink, id: string) => Promise<StatusAnswer | null>,
  ): Promise<Response> => {
    const id = params.id ?? '';
    const parts = await openOwn(ids, id, caller);
    const answer = await askInstance(directory, { ...parts, what: 'execution' }, (link) =>
      question(link, id),
    );
    if (!answer) throw new Failure('agent_lost', 'The agent did not say in time.', { started: 'unknown' });
    const status = describeExecution(id, parts.cluster, answer, beganMs);
    if (!status) throw unknownExecution(id);
    return jsonResponse(status, { headers: { 'Podgate-Execution-Id': id } });
  };
  const events = async ({ params, caller, request, info }: KeyedContext): Promise<Response> => {
    const executionId = params.id ?? '';
    const parts = await openOwn(ids, executionId, caller);
    const from = lastEventOf(request.headers);
    const follower = follow({ executionId, parts, caller, from });
    request.signal.addEventListener('abort', () => follower.abandon(), { once: true });
    if (request.signal.aborted) follower.abandon();
    try {
      await follower.opened;
    } catch (failure) {
      follower.abandon();
      throw failure;
    }
    return eventResponse(follower, { ...info, timers, describe: readResultOf, from });
  };
  const responses = { 200: { description: 'What is known of it', schema: executionStatus } };
  const problems = [403, 404, 429, 502, 503];
  return [
    {
      method: 'GET',
      path: '/v1/executions/{id}/events',
      scope: 'execute',
      orScope: 'sessions',
      handle: events,
      doc: {
        summary: 'What an execution says, from its first byte or behind the event that Last-Event-ID names',
        headers: {
          'Last-Event-ID': { description: 'The id of the last event that came', schema: { type: 'string' } },
        },
        responses: {
          200: {
            description:
              'Zero or more `output` and `gap`, then one `result` or `error`; all but `error` with ids',
            events: { output: outputEvent, gap: gapEvent, result: readResultEvent, error: errorEvent },
          },
        },
        problems: [...problems, 422],
      },
    },
    {
      method: 'GET',
      path: '/v1/executions/{id}',
      scope: 'execute',
      orScope: 'sessions',
      handle: (context) => ask(context, (link, id) => link.questions.status(id, false, STATUS_TIMEOUT_MS)),
      doc: { summary: 'How an execution is doing, or how it ended', responses, problems },
    },
    {
      method: 'DELETE',
      path: '/v1/executions/{id}',
      scope: 'execute',
      orScope: 'sessions',
      handle: (context) =>
        ask(context, (link, id) => link.questions.cancel(id, 'cancelled', CANCEL_TIMEOUT_MS)),
      doc: { summary: 'Cancel an execution', responses, problems },
    },
  ];
}

function lastEventOf(headers: Headers): ReceivedBytes {
  const id = headers.get('last-event-id');
  const from = id === null || id === '' ? FROM_THE_START : readEventId(id);
  if (from) return from;
  const message = 'Last-Event-ID is no id of these events.';
  throw new Failure('invalid_request', message, { errors: [{ path: 'Last-Event-ID', message }] });
}
