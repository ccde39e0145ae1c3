import type { ExecuteRequest, executeRequestSchema } from '../../shared/api.ts';
import { MAIN_FILES, reservedPath } from '../../shared/request-fields.ts';
import { type Caller, mayUseCluster, mayUseTemplate } from '../auth/caller.ts';
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
import type { GatewayDeps } from '../gateway-deps.ts';
import { askedCluster, askedTemplate, askedTimeoutMs } from '../http/asked.ts';
import { checkSchema, invalid, parseJson } from '../http/parse-json.ts';
import { readBody } from '../http/read-body.ts';
import type { KeyedContext } from '../http/route.ts';
import type { MemoryBudget } from '../memory-budget.ts';
import { webSha256 } from '../sha256.ts';

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
export type TakenOrder = Pick<ExecutionOrder, 'maxOutputBytes' | 'survives'> &
  ({ order: ExecutionOrder; key: RequestKey | null } | { repeats: KeyedExecution });

/** Body, then cluster, template and language, then files: the order in which a request may be refused. */
export async function takeOrder(
  deps: TakeOrderDeps,
  schema: ReturnType<typeof executeRequestSchema>,
  context: KeyedContext,
  streamed: boolean,
): Promise<TakenOrder> {
  const receivedMs = deps.elapsed();
  const { caller, request } = context;
  const keyText = readKey(request.headers);
  const body = await readBody(request, {
    timers: deps.timers,
    memory: deps.requestMemory,
    holder: caller,
  });
  try {
    const raw = parseJson(body.bytes);
    const asked = checkSchema(schema, raw);
    if (asked.rich && asked.language !== 'python')
      throw invalid([{ path: 'rich', message: `rich is for python: ${asked.language} has no such results` }]);
    requireOtherPaths(asked);
    const timeoutMs = askedTimeoutMs(asked, raw, caller);
    const wanted = wantedOf(asked, context);
    const limits = limitsOf(asked, caller, deps);
    const survives = asked.detach || keyText !== null;
    const key = keyText === null ? null : await keyOf(deps, keyText, asked, wanted);
    // Before what another key of its principal has begun: it answers as if there were nothing of that.
    if (key && !mayUse(wanted)) requirePlace(deps.directory, wanted);
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

function wantedOf(asked: ExecuteRequest, context: KeyedContext): Wanted {
  const { caller } = context;
  const template = askedTemplate(asked, caller);
  return { caller, cluster: askedCluster(asked, context), template, language: asked.language };
}

/** Where it may not, `requirePlace` says so. */
function mayUse({ caller, cluster, template }: Wanted): boolean {
  return (cluster === null || mayUseCluster(caller, cluster)) && mayUseTemplate(caller, template);
}

function lower(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}
