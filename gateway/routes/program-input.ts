import * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { toBase64Url } from '../../shared/jose.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { signalRequest, stdinResponse } from '../../shared/session-api.ts';
import type { SignalState } from '../../shared/signals.ts';
import { keyEnded, watchKey } from '../auth/watch-key.ts';
import { notHere } from '../clusters/ask-instance.ts';
import { NO_AGENT_RETRY_MS } from '../clusters/placement.ts';
import { type InputEnd, InputStream } from '../execution/input-stream.ts';
import { openOwn, unknownExecution } from '../execution/own-execution.ts';
import { STATUS_TIMEOUT_MS } from '../execution/sister-link.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { createCutoff } from '../http/cutoff.ts';
import { DISCARD_BOUNDS, discardRest } from '../http/discard.ts';
import { checkSchema } from '../http/parse-json.ts';
import { jsonResponse } from '../http/problem-response.ts';
import type { KeyedContext, Route } from '../http/route.ts';
import { noMemory } from '../memory-budget.ts';
import { createSessionRequests, type SessionRequestsDeps } from '../sessions/session-requests.ts';

const WRITER_BYTES = 12;
/** Of a body that the program does not live to take: its sender may wait to go on. */
const UNREAD = { maxBytes: DISCARD_BOUNDS.maxBytes, maxMs: 1_000 };
const PROBLEMS = [403, 404, 409, 413, 422, 429, 502, 503];
const stdinQuery = z.object({ close: z.enum(['true', 'false']).default('false') });

export type ProgramInputDeps = SessionRequestsDeps & Pick<GatewayDeps, 'random'>;

/** What a program of a session is given while it runs: its standard input, and signals. Any replica with a link serves them. */
export function createProgramInputRoutes(deps: ProgramInputDeps): Route[] {
  const { ids, directory, timers, requestMemory, random } = deps;
  const requests = createSessionRequests(deps);

  /** The body goes to the program as fast as that takes it; the answer comes when its agent has all of it. */
  async function feed(context: KeyedContext): Promise<Response> {
    const { caller, params, request } = context;
    const { close } = checkSchema(stdinQuery, Object.fromEntries(new URL(request.url).searchParams));
    const executionId = params.id ?? '';
    const parts = await openOwn(ids, executionId, caller);
    if (!directory.linkTo(parts)) throw notHere('program');
    const memory = requestMemory.reserve(caller);
    const verdict = memory.grow(STREAM_WINDOW_BYTES);
    if (verdict !== 'taken') throw noMemory(verdict);
    try {
      const writer = toBase64Url(random(WRITER_BYTES));
      const stream = await InputStream.open({ directory, timers }, { ...parts, executionId, writer });
      const before = stream.position;
      const why = await pour(stream, context, close === 'false');
      if (why === 'ended' || why === 'replaced')
        throw new Failure(
          'conflict',
          'The program ended, or its standard input was closed, before it was given all of this.',
          { started: 'yes' },
        );
      return jsonResponse({ bytes: stream.position - before, open: why === 'kept' });
    } finally {
      memory.release();
    }
  }

  async function pour(stream: InputStream, context: KeyedContext, keep: boolean): Promise<InputEnd> {
    const { request, caller } = context;
    const gone = Promise.withResolvers<never>();
    gone.promise.catch(() => {});
    const denied = () => gone.reject(keyEnded());
    const unwatch = watchKey(deps, caller, denied);
    const left = () => gone.reject(new Failure('cancelled', 'The caller went away.'));
    request.signal.addEventListener('abort', left, { once: true });
    const reader = request.body?.getReader();
    let isRead = reader === undefined;
    const cutoff = createCutoff(Promise.race([gone.promise, stream.over]));
    try {
      while (reader && !isRead) {
        const next = await cutoff.race(reader.read());
        // What the program does not live to take is not read either.
        if (typeof next === 'string') break;
        if (next.done) isRead = true;
        else await cutoff.race(stream.write(next.value));
      }
      return await Promise.race([stream.end(keep), gone.promise]);
    } catch (error) {
      // Nobody knows how much of it the program has: sent again it would have some twice.
      if (!(error instanceof Failure) || error.retryable)
        throw new Failure('agent_lost', 'The agent did not say how much of this arrived.', {
          started: 'unknown',
          cause: error,
        });
      if (error.code === 'not_found' || error.code === 'conflict')
        throw new Failure('conflict', 'The program ended, and nobody knows how much of this it was given.', {
          started: 'unknown',
          cause: error,
        });
      throw error;
    } finally {
      unwatch();
      request.signal.removeEventListener('abort', left);
      stream.leave();
      if (reader && !isRead) await discardRest(reader, timers, UNREAD);
    }
  }

  async function signal(context: KeyedContext): Promise<Response> {
    const { asked, release } = await requests.read(context, signalRequest);
    release();
    const executionId = context.params.id ?? '';
    const link = directory.linkTo(await openOwn(ids, executionId, context.caller));
    if (!link) throw notHere('program');
    const question = { execution_id: executionId, signal: asked.signal };
    const answer = await link.questions.signal(question, STATUS_TIMEOUT_MS);
    if (answer?.state === 'sent') return new Response(null, { status: 204 });
    if (answer) throw unsent(answer.state, executionId);
    // A link that went may have brought it there: sent again it could be two.
    const detail = 'The agent did not say whether the signal was sent.';
    throw new Failure('agent_lost', detail, { started: 'unknown' });
  }

  return [
    {
      method: 'POST',
      path: '/v1/executions/{id}/stdin',
      scope: 'sessions',
      handle: feed,
      doc: {
        summary: 'Give a program of a session standard input while it runs',
        query: {
          close: {
            description: 'true: its standard input ends behind this body',
            schema: { type: 'string', enum: ['true', 'false'], default: 'false' },
          },
        },
        requestContent: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } },
        responses: { 200: { description: 'The agent has all of it', schema: stdinResponse } },
        problems: PROBLEMS,
      },
    },
    {
      method: 'POST',
      path: '/v1/executions/{id}/signal',
      scope: 'sessions',
      handle: signal,
      doc: {
        summary: 'Send a signal to a program of a session; SIGINT interrupts Python without losing its state',
        request: signalRequest,
        responses: { 204: { description: 'It is on its way' } },
        problems: PROBLEMS,
      },
    },
  ];
}

function unsent(state: Exclude<SignalState, 'sent'>, id: string): Failure {
  switch (state) {
    case 'unknown':
      return unknownExecution(id);
    case 'over':
      return new Failure('conflict', 'The program has ended.');
    case 'takes_none':
      return new Failure('conflict', 'Only work of a session takes signals.');
    case 'waiting':
      return new Failure('conflict', 'The program has not begun.');
    case 'unreachable':
      return new Failure('backend_unavailable', 'The sandbox of the session cannot be reached now.', {
        retryAfterMs: NO_AGENT_RETRY_MS,
      });
  }
}
