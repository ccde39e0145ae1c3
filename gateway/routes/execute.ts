import {
  type ExecuteRequest,
  errorEvent,
  executeRequestSchema,
  executeResponse,
  outputEvent,
  resultEvent,
} from '../../shared/api.ts';
import { matchesName } from '../../shared/claims.ts';
import { Failure } from '../../shared/errors.ts';
import { clusterName } from '../../shared/messages.ts';
import type { Caller } from '../auth/caller.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { requirePlace, type Wanted } from '../clusters/placement.ts';
import { collectAnswer } from '../execution/answer.ts';
import { eventStream } from '../execution/event-stream.ts';
import { prepareInput } from '../execution/execution-input.ts';
import type { ExecutionOrder } from '../execution/execution-order.ts';
import type { ExecutionRun } from '../execution/execution-run.ts';
import type { MemoryBudget } from '../execution/memory-budget.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { checkSchema, invalid, parseJson } from '../http/parse-json.ts';
import { jsonResponse } from '../http/problem-response.ts';
import { readBody } from '../http/read-body.ts';
import type { Route, RouteContext } from '../http/route.ts';
import { webSha256 } from '../sha256.ts';

/** The template of a request that names none. */
export const DEFAULT_TEMPLATE = 'default';

export type ExecuteRoutesDeps = Pick<GatewayDeps, 'config' | 'now' | 'timers' | 'fileStore' | 'sha256'> & {
  directory: ClusterDirectory;
  requestMemory: MemoryBudget;
  /** Throws `draining` once this gateway takes no more. */
  requireOpen(): void;
  /** Throws where the run may not even wait. */
  start(order: ExecutionOrder): ExecutionRun;
};

export type KeyedContext = RouteContext & { caller: Caller };

/** `POST /v1/execute` and `POST /v1/execute/stream`. */
export function createExecuteRoutes(deps: ExecuteRoutesDeps): Route[] {
  const schema = executeRequestSchema({ maxTimeoutMs: deps.config.maxTimeoutMs });
  const readOrder = (context: KeyedContext, streamed: boolean) => takeOrder(deps, schema, context, streamed);

  const answer = async (context: KeyedContext): Promise<Response> => {
    const order = await readOrder(context, false);
    const run = begin(deps, order);
    const abandon = () => run.abandon();
    const { signal } = context.request;
    signal.addEventListener('abort', abandon);
    if (signal.aborted) abandon();
    try {
      const body = await collectAnswer(run, order.maxOutputBytes);
      return jsonResponse(body, { headers: { 'Podgate-Execution-Id': run.executionId } });
    } finally {
      signal.removeEventListener('abort', abandon);
    }
  };

  const stream = async (context: KeyedContext): Promise<Response> => {
    const run = begin(deps, await readOrder(context, true));
    const abandon = () => run.abandon();
    const { signal } = context.request;
    // Stays for the life of the stream: a connection may end before its body is read.
    signal.addEventListener('abort', abandon, { once: true });
    if (signal.aborted) abandon();
    try {
      await run.opened;
    } catch (failure) {
      run.abandon();
      throw failure;
    }
    return new Response(eventStream(run, context.info), {
      headers: {
        'Content-Type': 'text/event-stream',
        'Cache-Control': 'no-cache',
        'X-Accel-Buffering': 'no',
        'Podgate-Execution-Id': run.executionId,
      },
    });
  };

  const problems = [403, 404, 409, 413, 422, 429, 501, 502, 503];
  return [
    {
      method: 'POST',
      path: '/v1/execute',
      scope: 'execute',
      handle: answer,
      doc: {
        summary: 'Run code and answer with its output',
        request: schema,
        responses: { 200: { description: 'The code ran, whatever became of it', schema: executeResponse } },
        problems,
      },
    },
    {
      method: 'POST',
      path: '/v1/execute/stream',
      scope: 'execute',
      handle: stream,
      doc: {
        summary: 'Run code and stream its output as server-sent events',
        request: schema,
        responses: {
          200: {
            description: 'Zero or more `output`, then one `result` or `error`',
            events: { output: outputEvent, result: resultEvent, error: errorEvent },
          },
        },
        problems,
      },
    },
  ];
}

function begin(deps: ExecuteRoutesDeps, order: ExecutionOrder): ExecutionRun {
  try {
    return deps.start(order);
  } catch (error) {
    order.release();
    throw error;
  }
}

/** Body, then cluster, template and language, then files: the order in which a request may be refused. */
async function takeOrder(
  deps: ExecuteRoutesDeps,
  schema: ReturnType<typeof executeRequestSchema>,
  context: KeyedContext,
  streamed: boolean,
): Promise<ExecutionOrder> {
  const receivedAtMs = deps.now();
  const { caller, request } = context;
  if (request.headers.has('idempotency-key'))
    throw new Failure(
      'not_implemented',
      'Idempotency-Key is not available yet; send the request without it.',
    );
  const body = await readBody(request, {
    timers: deps.timers,
    memory: deps.requestMemory,
    owner: caller.holder,
  });
  try {
    const raw = parseJson(body.bytes);
    const asked = checkSchema(schema, raw);
    if (asked.detach) throw new Failure('not_implemented', 'detach is not available yet; leave it out.');
    const timeoutMs = timeoutOf(asked, raw, caller);
    const wanted = wantedOf(asked, context);
    // Before the place: links that drain too would make it look as if there were no agent.
    deps.requireOpen();
    requirePlace(deps.directory, wanted);
    const input = await prepareInput(asked, caller, deps.fileStore);
    return {
      ...limitsOf(asked, caller, deps),
      ...tracesOf(context),
      timeoutMs,
      wanted,
      input,
      streamed,
      receivedAtMs,
      codeDigest: (deps.sha256 ?? webSha256)(asked.code),
      release: body.release,
    };
  } catch (error) {
    body.release();
    throw error;
  }
}

function tracesOf({
  requestId,
  traceparent,
}: KeyedContext): Pick<ExecutionOrder, 'requestId' | 'traceparent'> {
  return { requestId, traceparent };
}

function limitsOf(
  asked: ExecuteRequest,
  { limits }: Caller,
  { config }: ExecuteRoutesDeps,
): Pick<
  ExecutionOrder,
  'lastLineInteractive' | 'queueTimeoutMs' | 'maxOutputBytes' | 'memoryMb' | 'cpuSeconds' | 'outputLimitBytes'
> {
  return {
    lastLineInteractive: asked.last_line_interactive,
    queueTimeoutMs: asked.queue_timeout_ms,
    maxOutputBytes: Math.min(asked.limits.max_output_bytes ?? config.maxOutputBytes, config.maxOutputBytes),
    memoryMb: lower(asked.limits.memory_mb, limits.memory_mb),
    cpuSeconds: asked.limits.cpu_seconds,
    outputLimitBytes: asked.limits.output_limit_bytes,
  };
}

/** A timeout that was asked for and is above the key's ceiling is refused; the default is lowered to it. */
export function timeoutOf({ timeout_ms }: { timeout_ms: number }, raw: unknown, { limits }: Caller): number {
  const ceiling = limits.timeout_ms;
  if (ceiling === null || timeout_ms <= ceiling) return timeout_ms;
  if ((raw as { timeout_ms?: unknown }).timeout_ms === undefined) return ceiling;
  throw invalid([{ path: 'timeout_ms', message: `timeout_ms exceeds maximum of ${ceiling} ms` }]);
}

function wantedOf(asked: ExecuteRequest, { caller, request, pathCluster }: KeyedContext): Wanted {
  const cluster =
    asked.cluster ?? pathCluster ?? request.headers.get('podgate-cluster') ?? caller.defaultCluster;
  if (cluster !== null && !clusterName.safeParse(cluster).success)
    throw new Failure('no_cluster', 'No cluster has such a name.');
  return { caller, cluster, template: asked.template ?? defaultTemplate(caller), language: asked.language };
}

/** A key that is made for one template means that one. */
export function defaultTemplate({ templates }: Caller): string {
  const [only] = templates ?? [];
  if (templates === null || only === undefined || matchesName(templates, DEFAULT_TEMPLATE))
    return DEFAULT_TEMPLATE;
  return templates.length === 1 && !only.endsWith('*') ? only : DEFAULT_TEMPLATE;
}

export function lower(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}
