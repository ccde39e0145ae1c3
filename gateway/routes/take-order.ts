import { clusterName } from '../../shared/cluster-name.ts';
import type { ExecuteRequest, executeRequestSchema } from '../../shared/api.ts';
import { matchesName } from '../../shared/claims.ts';
import { Failure } from '../../shared/errors.ts';
import { MAIN_FILES, reservedPath } from '../../shared/request-fields.ts';
import type { Caller } from '../auth/caller.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { announcedTemplate } from '../clusters/instance.ts';
import { requireClusters, requirePlace, type Wanted } from '../clusters/placement.ts';
import { rendezvous } from '../clusters/rendezvous.ts';
import { prepareInput } from '../execution/execution-input.ts';
import type { ExecutionOrder } from '../execution/execution-order.ts';
import {
  type KeyedExecution,
  type KeyedExecutions,
  type RequestKey,
  readKey,
} from '../execution/keyed-executions.ts';
import type { MemoryBudget } from '../execution/memory-budget.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { checkSchema, invalid, parseJson } from '../http/parse-json.ts';
import { readBody } from '../http/read-body.ts';
import type { RouteContext } from '../http/route.ts';
import { webSha256 } from '../sha256.ts';

/** The template of a request that names none. */
export const DEFAULT_TEMPLATE = 'default';

export type KeyedContext = RouteContext & { caller: Caller };

export type TakeOrderDeps = Pick<
  GatewayDeps,
  'config' | 'now' | 'elapsed' | 'timers' | 'fileStore' | 'sha256'
> & {
  directory: ClusterDirectory;
  requestMemory: MemoryBudget;
  /** Throws `draining` once this gateway takes no more. */
  requireOpen(): void;
  keyed: KeyedExecutions;
};

/** What OpenAPI says of the cluster's name where no body or path gives one. */
export const CLUSTER_HEADER = {
  'Podgate-Cluster': {
    description: 'Where to run, unless the body or the path says so',
    schema: { type: 'string', minLength: 1, maxLength: 63 },
  },
} as const;

/** What a request asks for: an execution that is to begin, or one that another request with its key has begun. */
export type Asked = Pick<ExecutionOrder, 'maxOutputBytes' | 'survives'> &
  ({ order: ExecutionOrder; key: RequestKey | null } | { repeats: KeyedExecution });

/** Body, then cluster, template and language, then files: the order in which a request may be refused. */
export async function takeOrder(
  deps: TakeOrderDeps,
  schema: ReturnType<typeof executeRequestSchema>,
  context: KeyedContext,
  streamed: boolean,
): Promise<Asked> {
  const receivedMs = deps.elapsed();
  const { caller, request } = context;
  const keyText = readKey(request.headers);
  const body = await readBody(request, {
    timers: deps.timers,
    memory: deps.requestMemory,
    owner: caller.holder,
  });
  try {
    const raw = parseJson(body.bytes);
    const asked = checkSchema(schema, raw);
    if (asked.rich && asked.language !== 'python')
      throw invalid([{ path: 'rich', message: `rich is for python: ${asked.language} has no such results` }]);
    requireOtherPaths(asked);
    const timeoutMs = timeoutOf(asked, raw, caller);
    const wanted = wantedOf(asked, context);
    const limits = limitsOf(asked, caller, deps);
    const survives = asked.detach || keyText !== null;
    const key = keyText === null ? null : await keyOf(deps, keyText, asked, wanted);
    // Before files, which may be gone by now.
    const repeats = key ? deps.keyed.find(caller, key) : undefined;
    if (repeats) {
      body.release();
      return { ...limits, survives, repeats };
    }
    // Before the place: links that drain too would make it look as if there were no agent.
    deps.requireOpen();
    requirePlace(deps.directory, wanted);
    const input = await prepareInput(asked, caller, deps.fileStore);
    if (key && wanted.cluster === null) wanted.cluster = clusterOfKey(deps.directory, wanted, key);
    const order = {
      ...limits,
      ...tracesOf(context),
      timeoutMs,
      wanted,
      input,
      streamed,
      survives,
      ...(asked.rich && { document: 'before_files' as const }),
      receivedMs,
      codeDigest: (deps.sha256 ?? webSha256)(asked.code),
      release: body.release,
    };
    return { ...limits, survives, order, key };
  } catch (error) {
    body.release();
    throw error;
  }
}

/** Bound to all that was asked for, and to where: whatever a repeat spells otherwise is another request. */
async function keyOf(
  { sha256 = webSha256 }: TakeOrderDeps,
  text: string,
  asked: ExecuteRequest,
  { cluster, template }: Wanted,
): Promise<RequestKey> {
  return { text, digest: await sha256(JSON.stringify([cluster, template, asked])) };
}

/** Where no cluster is named the key decides: whoever repeats it, through whatever gateway, must end up in the same one. */
function clusterOfKey(directory: ClusterDirectory, wanted: Wanted, { text }: RequestKey): string | null {
  const { caller, template } = wanted;
  const names = requireClusters(directory, wanted)
    .filter(({ name, instances }) => [...instances].some((each) => announcedTemplate(each, name, template)))
    .map(({ name }) => name);
  return rendezvous(`${caller.principal} ${text}`, names) ?? null;
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
  { config }: TakeOrderDeps,
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

function requireOtherPaths({ files, language }: ExecuteRequest): void {
  const main = MAIN_FILES[language];
  const errors = files.flatMap(({ path }, index) =>
    path === main ? [{ path: `files.${index}.path`, message: reservedPath(main) }] : [],
  );
  if (errors.length > 0) throw invalid(errors);
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
