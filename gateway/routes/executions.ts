import { executionStatus } from '../../shared/api.ts';
import { Failure } from '../../shared/errors.ts';
import type { Caller } from '../auth/caller.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { describeExecution } from '../execution/describe-execution.ts';
import { STATUS_TIMEOUT_MS } from '../execution/sister-link.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { jsonResponse } from '../http/problem-response.ts';
import type { Route, RouteContext } from '../http/route.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { StatusAnswer } from '../link/status-asks.ts';

export type ExecutionRoutesDeps = Pick<GatewayDeps, 'ids' | 'now'> & { directory: ClusterDirectory };

type KeyedContext = RouteContext & { caller: Caller };

/** `GET` and `DELETE /v1/executions/{id}`: the id alone says which instance to ask. */
export function createExecutionRoutes({ ids, now, directory }: ExecutionRoutesDeps): Route[] {
  const ask = async (
    { params, caller }: KeyedContext,
    question: (link: GatewayLink, id: string) => Promise<StatusAnswer | null>,
  ): Promise<Response> => {
    const id = params.id ?? '';
    const unknown = () => new Failure('not_found', `Execution '${id.slice(0, 64)}' not found`);
    const parts = await ids.open('x', id);
    if (parts?.tenant !== caller.tenant || parts.principalDigest !== caller.principalDigest) throw unknown();
    const askOver = (): Promise<StatusAnswer | null> => {
      const link = directory.linkTo(parts.tenant, parts.instance);
      if (!link) throw new Failure('no_agent', 'The agent that has this execution is not connected here.');
      // A link that goes while it is asked leaves the question to its sister.
      return question(link, id).then((answer) => (answer || link.joined ? answer : askOver()));
    };
    const answer = await askOver();
    if (!answer) throw new Failure('agent_lost', 'The agent did not say in time.', { started: 'unknown' });
    const status = describeExecution(id, parts.cluster, answer, now());
    if (!status) throw unknown();
    return jsonResponse(status, { headers: { 'Podgate-Execution-Id': id } });
  };
  const responses = { 200: { description: 'What is known of it', schema: executionStatus } };
  const problems = [403, 404, 429, 502, 503];
  return [
    {
      method: 'GET',
      path: '/v1/executions/{id}',
      scope: 'execute',
      handle: (context) => ask(context, (link, id) => link.status(id, false, STATUS_TIMEOUT_MS)),
      doc: { summary: 'How an execution is doing, or how it ended', responses, problems },
    },
    {
      method: 'DELETE',
      path: '/v1/executions/{id}',
      scope: 'execute',
      handle: (context) =>
        ask(context, (link, id) => link.cancelExecution(id, 'cancelled', STATUS_TIMEOUT_MS)),
      doc: { summary: 'Cancel an execution', responses, problems },
    },
  ];
}
