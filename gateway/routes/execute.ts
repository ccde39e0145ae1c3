import {
  errorEvent,
  executeRequestSchema,
  executeResponse,
  gapEvent,
  outputEvent,
  resultEvent,
} from '../../shared/api.ts';
import { resultOf } from '../execution/answer.ts';
import { eventResponse, FROM_THE_START } from '../execution/event-stream.ts';
import type { ExecutionFollower } from '../execution/execution-follower.ts';
import type { ExecutionOrder } from '../execution/execution-order.ts';
import type { ExecutionRun } from '../execution/execution-run.ts';
import { answerAsJson } from '../execution/json-answer.ts';
import type { KeyedContext, Route } from '../http/route.ts';
import { CLUSTER_HEADER, type TakenOrder, type TakeOrderDeps, takeOrder } from './take-order.ts';

export type ExecuteRoutesDeps = TakeOrderDeps & {
  /** Throws where the run may not even wait. */
  start(order: ExecutionOrder): ExecutionRun;
};

/** `POST /v1/execute` and `POST /v1/execute/stream`. */
export function createExecuteRoutes(deps: ExecuteRoutesDeps): Route[] {
  const schema = executeRequestSchema({ maxTimeoutMs: deps.config.maxTimeoutMs });
  const readOrder = (context: KeyedContext, streamed: boolean) => takeOrder(deps, schema, context, streamed);

  const answer = async (context: KeyedContext): Promise<Response> => {
    const asked = await readOrder(context, false);
    const run = await open(deps, context, asked);
    heed(context.request.signal, run);
    const { maxOutputBytes } = asked;
    return answerAsJson(run, resultOf, { ...context.info, timers: deps.timers, maxOutputBytes });
  };

  const stream = async (context: KeyedContext): Promise<Response> => {
    const asked = await readOrder(context, true);
    const run = await open(deps, context, asked);
    heed(context.request.signal, run);
    try {
      await run.opened;
    } catch (failure) {
      run.abandon();
      throw failure;
    }
    const from = asked.survives ? FROM_THE_START : undefined;
    return eventResponse(run, { ...context.info, timers: deps.timers, from });
  };

  const problems = [403, 404, 409, 413, 422, 429, 501, 502, 503];
  return [
    {
      method: 'POST',
      path: '/v1/execute',
      scope: 'execute',
      takesKey: true,
      handle: answer,
      doc: {
        summary: 'Run code and answer with its output',
        request: schema,
        headers: CLUSTER_HEADER,
        responses: { 200: { description: 'The code ran, whatever became of it', schema: executeResponse } },
        problems,
      },
    },
    {
      method: 'POST',
      path: '/v1/execute/stream',
      scope: 'execute',
      takesKey: true,
      handle: stream,
      doc: {
        summary: 'Run code and stream its output as server-sent events',
        request: schema,
        headers: CLUSTER_HEADER,
        responses: {
          200: {
            description:
              'Zero or more `output`, then one `result` or `error`; with Idempotency-Key or detach they have ids, and what a repeat cannot have any more is a `gap`',
            events: { output: outputEvent, gap: gapEvent, result: resultEvent, error: errorEvent },
          },
        },
        problems,
      },
    },
  ];
}

/** A run ends with its caller, also when its answer is on its way: a connection may end before that is read. */
function heed(signal: AbortSignal, run: ExecutionRun | ExecutionFollower): void {
  signal.addEventListener('abort', () => run.abandon(), { once: true });
  if (signal.aborted) run.abandon();
}

/** Begins what was asked for; or reads it where another request with its key has begun it. */
function open(
  deps: ExecuteRoutesDeps,
  { caller, request }: KeyedContext,
  asked: TakenOrder,
): Promise<ExecutionRun | ExecutionFollower> | ExecutionRun {
  if ('repeats' in asked) return deps.keyed.join(asked.repeats, caller, request.signal);
  const { order, key } = asked;
  if (key) return deps.keyed.open(order, key, request.signal);
  try {
    return deps.start(order);
  } catch (error) {
    order.release();
    throw error;
  }
}
