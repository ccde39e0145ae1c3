import type * as z from 'zod';
import { errorEvent, gapEvent, outputEvent } from '../../shared/api.ts';
import {
  type BashRequest,
  bashRequestSchema,
  bashResponse,
  bashResultEvent,
  bashStreamRequestSchema,
  type PythonRequest,
  pythonRequestSchema,
  pythonResponse,
  pythonResultEvent,
  pythonStreamRequestSchema,
} from '../../shared/session-api.ts';
import { contextName } from '../../shared/session-messages.ts';
import type { Ending } from '../execution/ending.ts';
import { checkSchema } from '../http/parse-json.ts';
import type { KeyedContext, Route } from '../http/route.ts';
import { commandResultOf, pythonResultOf } from '../sessions/session-answer.ts';
import type { SessionBook } from '../sessions/session-book.ts';
import { createSessionOrders } from '../sessions/session-orders.ts';
import { type Begun, createSessionRequests, type SessionRequestsDeps } from '../sessions/session-requests.ts';

const PROBLEMS = [403, 404, 409, 413, 422, 429, 502, 503];

type Work = { run: Begun; describe: (ending: Ending) => object };

/** Work in a session: shell commands and Python, whole or as server-sent events. */
export function createSessionWorkRoutes(deps: SessionRequestsDeps, book: SessionBook): Route[] {
  const ceilings = { maxTimeoutMs: deps.config.maxTimeoutMs };
  const bashRequest = bashRequestSchema(ceilings);
  const bashStreamRequest = bashStreamRequestSchema(ceilings);
  const pythonRequest = pythonRequestSchema(ceilings);
  const pythonStreamRequest = pythonStreamRequestSchema(ceilings);
  const requests = createSessionRequests(deps);
  const orders = createSessionOrders(deps);
  const placeOf = ({ caller, params, pathCluster }: KeyedContext) =>
    book.find(caller, params.id ?? '', pathCluster);

  async function bash(context: KeyedContext, streamed: boolean): Promise<Work> {
    const schema: z.ZodType<BashRequest> = streamed ? bashStreamRequest : bashRequest;
    const asked = await requests.read(context, schema);
    const order = async () => orders.bash(context, await placeOf(context), asked, streamed);
    return { run: await requests.beginOnce(context, asked, order), describe: commandResultOf };
  }

  async function python(context: KeyedContext, streamed: boolean): Promise<Work> {
    const schema: z.ZodType<PythonRequest> = streamed ? pythonStreamRequest : pythonRequest;
    const asked = await requests.read(context, schema);
    const order = async () => orders.python(context, await placeOf(context), asked, streamed);
    const run = await requests.beginOnce(context, asked, order);
    return { run, describe: pythonResultOf(asked.asked.context) };
  }

  type Begin = (context: KeyedContext, streamed: boolean) => Promise<Work>;
  const whole = (begin: Begin) => async (context: KeyedContext) => {
    const { run, describe } = await begin(context, false);
    return requests.answer(context, run, describe);
  };
  const streamed = (begin: Begin) => async (context: KeyedContext) => {
    const { run, describe } = await begin(context, true);
    return requests.stream(context, run, describe);
  };

  async function restart(context: KeyedContext): Promise<Response> {
    const name = checkSchema(contextName, context.params.name);
    const order = async () => orders.restart(context, await placeOf(context), name);
    const run = await requests.begin({ release() {} }, order);
    await requests.collect(context, run, commandResultOf);
    return new Response(null, { status: 204 });
  }

  return [
    {
      method: 'POST',
      path: '/v1/sessions/{id}/bash',
      scope: 'sessions',
      takesKey: true,
      handle: whole(bash),
      doc: {
        summary: 'Run a shell command in a session',
        request: bashRequest,
        responses: { 200: { description: 'The command ended', schema: bashResponse } },
        problems: PROBLEMS,
      },
    },
    {
      method: 'POST',
      path: '/v1/sessions/{id}/bash/stream',
      scope: 'sessions',
      takesKey: true,
      handle: streamed(bash),
      doc: {
        summary: 'Run a shell command in a session and stream its output as server-sent events',
        request: bashStreamRequest,
        responses: {
          200: {
            description:
              'Zero or more `output`, then one `result` or `error`; with Idempotency-Key they have ids, and what a repeat cannot have any more is a `gap`',
            events: { output: outputEvent, gap: gapEvent, result: bashResultEvent, error: errorEvent },
          },
        },
        problems: PROBLEMS,
      },
    },
    {
      method: 'POST',
      path: '/v1/sessions/{id}/execute',
      scope: 'sessions',
      takesKey: true,
      handle: whole(python),
      doc: {
        summary: 'Run Python in a session, in an interpreter that remembers',
        request: pythonRequest,
        responses: { 200: { description: 'The code ran, whatever became of it', schema: pythonResponse } },
        problems: PROBLEMS,
      },
    },
    {
      method: 'POST',
      path: '/v1/sessions/{id}/execute/stream',
      scope: 'sessions',
      takesKey: true,
      handle: streamed(python),
      doc: {
        summary: 'Run Python in a session and stream its output as server-sent events',
        request: pythonStreamRequest,
        responses: {
          200: {
            description:
              'Zero or more `output`, then one `result` or `error`; with Idempotency-Key they have ids, and what a repeat cannot have any more is a `gap`',
            events: { output: outputEvent, gap: gapEvent, result: pythonResultEvent, error: errorEvent },
          },
        },
        problems: PROBLEMS,
      },
    },
    {
      method: 'POST',
      path: '/v1/sessions/{id}/contexts/{name}/restart',
      scope: 'sessions',
      handle: restart,
      doc: {
        summary: 'End an interpreter of a session; the next execution in its context finds a new one',
        responses: { 204: { description: 'It ends, with what it ran' } },
        problems: PROBLEMS,
      },
    },
  ];
}
