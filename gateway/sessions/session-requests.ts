import type * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { collectAs } from '../execution/answer.ts';
import { eventStream } from '../execution/event-stream.ts';
import type { ExecutionOrder } from '../execution/execution-order.ts';
import type { ExecutionRun } from '../execution/execution-run.ts';
import type { MemoryBudget } from '../execution/memory-budget.ts';
import type { Ending } from '../execution/run-ending.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { checkSchema, parseJson } from '../http/parse-json.ts';
import { readBody } from '../http/read-body.ts';
import type { KeyedContext } from '../routes/take-order.ts';
import { noSession } from './session-book.ts';
import type { Asked } from './session-orders.ts';

export type SessionRequestsDeps = Pick<
  GatewayDeps,
  'config' | 'timers' | 'fileStore' | 'ids' | 'now' | 'elapsed' | 'sha256'
> & {
  directory: ClusterDirectory;
  requestMemory: MemoryBudget;
  requireOpen(): void;
  start(order: ExecutionOrder): ExecutionRun;
};

/** From an HTTP request to an execution under way, and from that to an answer: what all routes of sessions share. */
export type SessionRequests = {
  read<S extends z.ZodType>(context: KeyedContext, schema: S): Promise<Asked<z.output<S>>>;
  /** What fails before the execution is under way gives the request's memory back. */
  begin(asked: Pick<Asked<unknown>, 'release'>, order: () => Promise<ExecutionOrder>): Promise<ExecutionRun>;
  /** Does something with a run that ends with its caller. */
  whileHeard<T>(context: KeyedContext, run: ExecutionRun, work: () => Promise<T>): Promise<T>;
  /** Collects output and end. The run ends with its caller. */
  answer<Result extends object>(
    context: KeyedContext,
    run: ExecutionRun,
    describe: (ending: Ending) => Result,
  ): Promise<{ stdout: string; stderr: string } & Result>;
  /** The same as server-sent events, once the program began. */
  stream(context: KeyedContext, run: ExecutionRun, describe: (ending: Ending) => object): Promise<Response>;
};

export function createSessionRequests(deps: SessionRequestsDeps): SessionRequests {
  const { config, timers, requestMemory } = deps;

  async function whileHeard<T>(
    { request, params }: KeyedContext,
    run: ExecutionRun,
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
      if (error instanceof Failure && error.code === 'no_session') throw noSession(params.id ?? '');
      throw error;
    } finally {
      if (!keep) signal.removeEventListener('abort', abandon);
    }
  }

  return {
    whileHeard: (context, run, work) => whileHeard(context, run, work),
    async read(context, schema) {
      const { request, caller } = context;
      const receivedMs = deps.elapsed();
      const body = await readBody(request, { timers, memory: requestMemory, owner: caller.holder });
      try {
        const raw = parseJson(body.bytes);
        return { asked: checkSchema(schema, raw), raw, receivedMs, release: body.release };
      } catch (error) {
        body.release();
        throw error;
      }
    },
    async begin(asked, order) {
      try {
        deps.requireOpen();
        return deps.start(await order());
      } catch (error) {
        asked.release();
        throw error;
      }
    },
    answer: (context, run, describe) =>
      whileHeard(context, run, () => collectAs(run, config.maxOutputBytes, describe)),
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
          return new Response(eventStream(run, context.info, describe), {
            headers: {
              'Content-Type': 'text/event-stream',
              'Cache-Control': 'no-cache',
              'X-Accel-Buffering': 'no',
              'Podgate-Execution-Id': run.executionId,
            },
          });
        },
        true,
      ),
  };
}
