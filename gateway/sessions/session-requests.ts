import type * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { requireKey } from '../auth/watch-key.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { collectAs } from '../execution/answer.ts';
import type { Ending } from '../execution/ending.ts';
import { eventResponse, FROM_THE_START } from '../execution/event-stream.ts';
import type { ExecutionFollower } from '../execution/execution-follower.ts';
import type { ExecutionOrder } from '../execution/execution-order.ts';
import type { ExecutionRun } from '../execution/execution-run.ts';
import { answerAsJson } from '../execution/json-answer.ts';
import { type KeyedExecutions, type RequestKey, readKey } from '../execution/keyed-executions.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { checkSchema, parseJson } from '../http/parse-json.ts';
import { readBody } from '../http/read-body.ts';
import type { KeyedContext } from '../http/route.ts';
import type { MemoryBudget } from '../memory-budget.ts';
import { webSha256 } from '../sha256.ts';
import { noSession } from './session-book.ts';
import type { CheckedBody } from './session-orders.ts';

export type SessionRequestsDeps = Pick<
  GatewayDeps,
  'config' | 'timers' | 'fileStore' | 'ids' | 'now' | 'elapsed' | 'sha256' | 'authenticator'
> & {
  directory: ClusterDirectory;
  requestMemory: MemoryBudget;
  requireOpen(): void;
  start(order: ExecutionOrder): ExecutionRun;
  keyed: KeyedExecutions;
};

/** Work that its own request began, or another with the same key. */
export type Begun = ExecutionRun | ExecutionFollower;

/** From an HTTP request to an execution under way, and from that to an answer: what all routes of sessions share. */
export type SessionRequests = {
  read<S extends z.ZodType>(context: KeyedContext, schema: S): Promise<CheckedBody<z.output<S>>>;
  /** What fails before the execution is under way gives the request's memory back. */
  begin(
    asked: Pick<CheckedBody<unknown>, 'release'>,
    order: () => Promise<ExecutionOrder>,
  ): Promise<ExecutionRun>;
  /** The same for work that may have an `Idempotency-Key`, which is then begun once and goes on without its caller. */
  beginOnce(
    context: KeyedContext,
    asked: CheckedBody<object>,
    order: () => Promise<ExecutionOrder>,
  ): Promise<Begun>;
  /** Does something with a run that ends with its caller. */
  whileHeard<T>(context: KeyedContext, run: Begun, work: () => Promise<T>): Promise<T>;
  /** Collects output and end. The run ends with its caller. */
  collect<Result extends object>(
    context: KeyedContext,
    run: Begun,
    describe: (ending: Ending) => Result,
  ): Promise<{ stdout: string; stderr: string } & Result>;
  /** Answers with them. */
  answer(context: KeyedContext, run: Begun, describe: (ending: Ending) => object): Promise<Response>;
  /** The same as server-sent events, once the program began. */
  stream(context: KeyedContext, run: Begun, describe: (ending: Ending) => object): Promise<Response>;
};

export function createSessionRequests(deps: SessionRequestsDeps): SessionRequests {
  const { config, timers, requestMemory } = deps;

  async function whileHeard<T>(
    { request, params }: KeyedContext,
    run: Begun,
    work: () => Promise<T>,
    keep = false,
  ): Promise<T> {
    const abandon = () => run.abandon();
    const { signal } = request;
    signal.addEventListener('abort', abandon, { once: true });
    if (signal.aborted) abandon();
    try {
      return await work();
    } catch (error) {
      throw named(error, params.id);
    } finally {
      if (!keep) signal.removeEventListener('abort', abandon);
    }
  }

  /** Bound to the session and to all that was asked for there, streamed or not. */
  async function keyOf({ params }: KeyedContext, text: string, asked: object): Promise<RequestKey> {
    const { sha256 = webSha256 } = deps;
    return { text, digest: await sha256(JSON.stringify(['session', params.id, { input: false, ...asked }])) };
  }

  async function begin(asked: Pick<CheckedBody<unknown>, 'release'>, order: () => Promise<ExecutionOrder>) {
    try {
      deps.requireOpen();
      return deps.start(await order());
    } catch (error) {
      asked.release();
      throw error;
    }
  }

  return {
    whileHeard: (context, run, work) => whileHeard(context, run, work),
    async read(context, schema) {
      const { request, caller } = context;
      const receivedMs = deps.elapsed();
      const body = await readBody(request, { timers, memory: requestMemory, holder: caller });
      try {
        requireKey(deps, caller);
        const raw = parseJson(body.bytes);
        return { asked: checkSchema(schema, raw), raw, receivedMs, release: body.release };
      } catch (error) {
        body.release();
        throw error;
      }
    },
    begin,
    async beginOnce(context, request, order) {
      const { signal } = context.request;
      try {
        const text = readKey(context.request.headers);
        if (text === null) return await begin(request, order);
        const key = await keyOf(context, text, request.asked);
        // Before the session, which may have ended by now.
        const repeats = deps.keyed.find(context.caller, key);
        if (repeats) {
          request.release();
          return await deps.keyed.join(repeats, context.caller, signal);
        }
        deps.requireOpen();
        return await deps.keyed.open({ ...(await order()), survives: true }, key, signal);
      } catch (error) {
        request.release();
        throw named(error, context.params.id);
      }
    },
    collect: (context, run, describe) =>
      whileHeard(context, run, () => collectAs(run, config.maxOutputBytes, describe)),
    answer: (context, run, describe) =>
      whileHeard(
        context,
        run,
        () => answerAsJson(run, describe, { ...context.info, timers, maxOutputBytes: config.maxOutputBytes }),
        true,
      ),
    stream: (context, run, describe) =>
      whileHeard(
        context,
        run,
        async () => {
          try {
            await run.opened;
          } catch (failure) {
            run.abandon();
            throw failure;
          }
          const from = context.request.headers.has('idempotency-key') ? FROM_THE_START : undefined;
          return eventResponse(run, { ...context.info, timers, describe, from });
        },
        true,
      ),
  };
}

/** An agent that knows no such session does not say which. */
function named(error: unknown, id = ''): unknown {
  return error instanceof Failure && error.code === 'no_session' ? noSession(id) : error;
}
