import type { ExecuteRequest } from '../../shared/api.ts';
import { executeRequestSchema } from '../../shared/api.ts';
import { MAX_SESSION_FILE_BYTES, SESSION_FILES_TIMEOUT_MS } from '../../shared/limits.ts';
import type { BashRequest, CreateSessionRequest, PythonRequest } from '../../shared/session-api.ts';
import type { FileWork, SessionWork } from '../../shared/session-messages.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { requirePlace, type Wanted } from '../clusters/placement.ts';
import { type ExecutionInput, prepareInput } from '../execution/execution-input.ts';
import type { ExecutionOrder } from '../execution/execution-order.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { askedCluster, askedTemplate, askedTimeoutMs } from '../http/asked.ts';
import type { KeyedContext } from '../http/route.ts';
import { webSha256 } from '../sha256.ts';
import type { SessionPlace } from './session-book.ts';

export type SessionOrdersDeps = Pick<GatewayDeps, 'config' | 'elapsed' | 'fileStore' | 'sha256'> & {
  directory: ClusterDirectory;
};

/** A request's body once it was checked, as it came too, and what gives its memory back. */
export type CheckedBody<Request> = { asked: Request; raw: unknown; receivedMs: number; release: () => void };

/** Bytes on their way into a session: a file where `as` names it, else what the request reads. */
export type Upload = { size: number; body: ReadableStream<Uint8Array>; as?: string };

/** Opening a session stages files and starts one process. */
const OPEN_TIMEOUT_MS = 30_000;
const RESTART_TIMEOUT_MS = 10_000;
/** Work in a session waits for nobody but a link that is being replaced. */
const REACH_TIMEOUT_MS = 5_000;

/** What sessions ask of the machinery that runs executions: each piece of their work is one. */
export type SessionOrders = {
  /** Files, then the place: the order in which a request may be refused. */
  open(context: KeyedContext, request: CheckedBody<CreateSessionRequest>): Promise<ExecutionOrder>;
  bash(
    context: KeyedContext,
    place: SessionPlace,
    request: CheckedBody<BashRequest>,
    streamed: boolean,
  ): Promise<ExecutionOrder>;
  python(
    context: KeyedContext,
    place: SessionPlace,
    request: CheckedBody<PythonRequest>,
    streamed: boolean,
  ): Promise<ExecutionOrder>;
  files(
    context: KeyedContext,
    place: SessionPlace,
    files: FileWork,
    upload?: Upload,
  ): Promise<ExecutionOrder>;
  restart(context: KeyedContext, place: SessionPlace, name: string): Promise<ExecutionOrder>;
};

export function createSessionOrders(deps: SessionOrdersDeps): SessionOrders {
  const { config, fileStore, directory } = deps;
  const plain = executeRequestSchema({ maxTimeoutMs: config.maxTimeoutMs });

  function common(
    { caller, requestId, traceparent }: KeyedContext,
    { receivedMs, release }: CheckedBody<unknown>,
    code: string,
  ) {
    return {
      requestId,
      traceparent,
      receivedMs,
      release,
      lastLineInteractive: false,
      maxOutputBytes: config.maxOutputBytes,
      memoryMb: caller.limits.memory_mb,
      cpuSeconds: null,
      outputLimitBytes: null,
      streamed: false,
      survives: false,
      codeDigest: (deps.sha256 ?? webSha256)(code),
    };
  }

  /** Files, code and the rest in the form of an execution that has only those. */
  const inputOf = (context: KeyedContext, given: Partial<ExecuteRequest> & { code: string }) =>
    prepareInput({ ...plain.parse({ code: '' }), ...given }, context.caller, fileStore);

  return {
    async open(context, request) {
      const { asked } = request;
      const { caller } = context;
      const input = await inputOf(context, { code: '', files: asked.files });
      const wanted: Wanted = {
        caller,
        cluster: askedCluster(asked, context),
        template: askedTemplate(asked, caller),
        language: null,
      };
      requirePlace(directory, wanted);
      return {
        ...common(context, request, ''),
        wanted,
        input,
        timeoutMs: OPEN_TIMEOUT_MS,
        queueTimeoutMs: asked.queue_timeout_ms,
        session: {
          do: 'open',
          ttlMs: asked.ttl_seconds * 1_000,
          idleMs: asked.idle_seconds === null ? null : asked.idle_seconds * 1_000,
          ceiling: caller.limits.sessions,
        },
      };
    },
    async bash(context, place, request, streamed) {
      const { cmd, env, stdin, input } = request.asked;
      const work: SessionWork = { do: 'bash', id: place.id, ...(input && { input }) };
      return {
        ...common(context, request, cmd),
        streamed,
        ...inSession(context, place, work, 'bash'),
        input: await inputOf(context, { code: cmd, env, stdin }),
        timeoutMs: askedTimeoutMs(request.asked, request.raw, context.caller),
      };
    },
    async python(context, place, request, streamed) {
      const { code, stdin, files, rich, input, last_line_interactive } = request.asked;
      const { context: name } = request.asked;
      const work: SessionWork = {
        do: 'python',
        id: place.id,
        context: name,
        rich,
        ...(input && { input }),
      };
      return {
        ...common(context, request, code),
        streamed,
        ...inSession(context, place, work, 'python'),
        input: await inputOf(context, { code, stdin, files }),
        timeoutMs: askedTimeoutMs(request.asked, request.raw, context.caller),
        lastLineInteractive: last_line_interactive,
        document: 'in_place_of_files',
      };
    },
    async files(context, place, files, upload) {
      const nothing = { asked: {}, raw: {}, receivedMs: deps.elapsed(), release() {} };
      return {
        ...common(context, nothing, ''),
        ...inSession(context, place, { do: 'files', id: place.id, files }, 'python'),
        input: upload ? uploadInput(upload) : await inputOf(context, { code: '' }),
        timeoutMs: SESSION_FILES_TIMEOUT_MS,
        maxOutputBytes: MAX_SESSION_FILE_BYTES,
      };
    },
    async restart(context, place, name) {
      const nothing = { asked: {}, raw: {}, receivedMs: deps.elapsed(), release() {} };
      return {
        ...common(context, nothing, ''),
        ...inSession(context, place, { do: 'restart', id: place.id, context: name }, 'python'),
        input: await inputOf(context, { code: '' }),
        timeoutMs: RESTART_TIMEOUT_MS,
      };
    },
  };
}

function inSession(
  { caller }: KeyedContext,
  { cluster, instance, template }: SessionPlace,
  work: Exclude<SessionWork, { do: 'open' }>,
  language: string,
): Pick<ExecutionOrder, 'wanted' | 'queueTimeoutMs' | 'session'> {
  return {
    wanted: { caller, cluster, template, language },
    queueTimeoutMs: REACH_TIMEOUT_MS,
    session: { do: 'work', work, cluster, instance },
  };
}

function uploadInput({ size, body, as }: Upload): ExecutionInput {
  const files = as === undefined ? [] : [{ path: as, size }];
  const manifest = new TextEncoder().encode(JSON.stringify({ args: [], env: {}, files }));
  return {
    sizes: {
      manifest: manifest.byteLength,
      code: 0,
      stdin: as === undefined ? size : null,
      files: as === undefined ? 0 : size,
    },
    head: [manifest],
    files: [{ path: as ?? '', size, body }],
    bytes: manifest.byteLength + size,
  };
}
