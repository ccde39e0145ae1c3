import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Failure } from '../../../shared/errors.ts';
import { orAborted } from '../../deadline.ts';
import { readLines, readText } from '../bounded-text.ts';
import { IN_CLUSTER_CONTEXT } from './cluster-contexts.ts';
import { bodyOf, codeOf, isFailure, parseStatus } from './kube-answer.ts';
import type { Connection, KubeAccess } from './kube-config.ts';
import { isRefused, KubeRefusal, statusFailure } from './kube-failure.ts';
import type { WatchEvent } from './kube-objects.ts';
import { type RightsBook, rightOf } from './rights.ts';

/** A list of some thousands of pods, each with the runner in its command. */
const MAX_BODY_BYTES = 268_435_456;
const MAX_EVENT_BYTES = 8_388_608;
export const REQUEST_TIMEOUT_MS = 15_000;
/** For what took longer than that before: admission webhooks may take 30 s each, and the server itself gives up after so long. */
export const SLOW_TIMEOUT_MS = 60_000;

export type Call = {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** From the server's root, with its leading slash. */
  path: string;
  query?: Readonly<Record<string, string>>;
  body?: object;
  signal?: AbortSignal;
  timeoutMs?: number;
  /** Does not wait for a socket behind calls that hang: for Leases. Watches never do. */
  vital?: boolean;
  /** Of a list: what its objects are called and belong to, and nothing of what they are. A server may pass over it. */
  metadataOnly?: boolean;
};

const METADATA_ONLY = 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json';

/** Counts calls, so that tests and benchmarks can say how many an execution took. */
export type KubeClient = {
  readonly access: KubeAccess;
  readonly calls: number;
  /** The server's time as its last answer had it, in whole seconds; undefined before the first. */
  readonly serverDate: string | undefined;
  /** What the agent was found to have no right to. Undefined where nobody keeps it. */
  readonly rights: RightsBook | undefined;
  /** The answer's body. Rejects with a KubeRefusal (the server said no) or another Failure (no answer). */
  call<T>(call: Call): Promise<T>;
  /** Events until the server ends the watch. Rejects when it breaks, and after `idleMs` without an event. */
  watch<T>(path: string, query: Record<string, string>, options: WatchOptions): AsyncGenerator<WatchEvent<T>>;
};

export type WatchOptions = {
  signal: AbortSignal;
  idleMs: number;
  /** The server has taken the watch. */
  onOpen?: () => void;
};

/** Plain REST over `node:https`: signals, sockets that stay open, and the server's words kept out of messages. */
export function createKubeClient(access: KubeAccess, rights?: RightsBook): KubeClient {
  const isMounted = access.context === IN_CLUSTER_CONTEXT;
  let calls = 0;
  let serverDate: string | undefined;

  /** What an answer says of the agent's rights, whatever else it says. */
  function learn(wanted: Asked, refused?: KubeRefusal): void {
    const right = rightOf(wanted);
    if (refused?.right) rights?.refused(refused.right);
    else if (right && refused?.httpStatus !== 401 && refused?.httpStatus !== 403) rights?.allowed(right);
  }

  async function send(call: Call, signal: AbortSignal): Promise<IncomingMessage> {
    calls += 1;
    const { headers, tls, proxy } = await connectionOf(access, signal);
    const url = new URL(access.server + call.path);
    for (const [name, value] of Object.entries(call.query ?? {})) url.searchParams.set(name, value);
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const options: RequestOptions = {
      ...tls,
      method: call.method,
      agent: proxy ?? (call.vital ? access.vitalAgent : access.agent),
      signal,
      headers: {
        accept: call.metadataOnly ? METADATA_ONLY : 'application/json',
        'user-agent': 'podgate',
        ...headers,
        ...(body ? { 'content-type': 'application/json', 'content-length': body.byteLength } : {}),
      },
    };
    return new Promise((resolve, reject) => {
      const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, options, resolve);
      request.on('error', reject);
      request.end(body);
    });
  }

  async function call<T>(wanted: Call): Promise<T> {
    try {
      return await callOnce<T>(wanted);
    } catch (cause) {
      // Refused before anything was done: with another credential it may be asked again.
      if (!isRefused(cause, 401) || !(await access.refused())) throw cause;
      return callOnce<T>(wanted);
    }
  }

  async function callOnce<T>(wanted: Call): Promise<T> {
    const deadline = AbortSignal.timeout(wanted.timeoutMs ?? REQUEST_TIMEOUT_MS);
    const signal = wanted.signal ? AbortSignal.any([wanted.signal, deadline]) : deadline;
    const asked = { ...wanted, isMounted };
    try {
      const response = await send(wanted, signal);
      serverDate = response.headers.date;
      const text = await readText(response, MAX_BODY_BYTES);
      const status = response.statusCode ?? 0;
      if (status < 200 || status >= 300) throw refusal(response, text, asked);
      const body = bodyOf(text, access);
      if (isFailure(body)) throw refusal(response, text, asked, codeOf(body));
      learn(wanted);
      return body as T;
    } catch (cause) {
      if (cause instanceof KubeRefusal) learn(wanted, cause);
      if (cause instanceof Failure || wanted.signal?.aborted) throw cause;
      // What a request rejects with when it is aborted does not say why.
      throw unreachable(access, deadline.aborted ? deadline.reason : cause);
    }
  }

  async function* watch<T>(
    path: string,
    query: Record<string, string>,
    { signal, idleMs, onOpen }: WatchOptions,
  ): AsyncGenerator<WatchEvent<T>> {
    const idle = new AbortController();
    const both = AbortSignal.any([signal, idle.signal]);
    let timer = setTimeout(() => idle.abort(), idleMs);
    const wanted = {
      method: 'GET',
      path,
      query: { ...query, watch: 'true' },
      isWatch: true,
      vital: true,
    } as const;
    try {
      const response = await send(wanted, both);
      if (response.statusCode !== 200)
        throw refusal(response, await readText(response, MAX_EVENT_BYTES), { ...wanted, isMounted });
      learn(wanted);
      onOpen?.();
      for await (const line of readLines(response, MAX_EVENT_BYTES)) {
        clearTimeout(timer);
        timer = setTimeout(() => idle.abort(), idleMs);
        yield JSON.parse(line) as WatchEvent<T>;
      }
    } catch (cause) {
      if (cause instanceof KubeRefusal) learn(wanted, cause);
      if (isRefused(cause, 401)) await access.refused();
      if (cause instanceof Failure || signal.aborted) throw cause;
      throw unreachable(access, cause);
    } finally {
      clearTimeout(timer);
      // A consumer that leaves early leaves no socket behind.
      idle.abort();
    }
  }

  return {
    access,
    rights,
    get serverDate() {
      return serverDate;
    },
    get calls() {
      return calls;
    },
    call,
    watch,
  };
}

/** The context's credential at this moment, if it can be had before the signal aborts. */
export async function connectionOf(access: KubeAccess, signal: AbortSignal): Promise<Connection> {
  try {
    return await orAborted(access.connection(), signal);
  } catch (cause) {
    if ((cause as { name?: unknown } | null)?.name !== 'TimeoutError') throw cause;
    const detail = `No credential could be had in time for context '${access.context}'.`;
    throw new Failure('backend_unavailable', detail, { cause });
  }
}

type Asked = Call & { isWatch?: boolean };

function refusal(
  response: IncomingMessage,
  text: string,
  wanted: Asked & { isMounted: boolean },
  status = response.statusCode ?? 0,
): KubeRefusal {
  const { method, path, isMounted } = wanted;
  return statusFailure(parseStatus(text), {
    status,
    retryAfter: response.headers['retry-after'],
    what: `${method} ${path}`,
    right: rightOf(wanted),
    isMounted,
  });
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'it cut the connection',
  ENOTFOUND: 'there is no such host',
  EAI_AGAIN: 'its name cannot be resolved now',
  EHOSTUNREACH: 'there is no way to it',
  ENETUNREACH: 'there is no way to it',
  ETIMEDOUT: 'it did not answer in time',
  EPROTO: 'it speaks no TLS',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it speaks no TLS',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'it speaks no TLS',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: "its certificate is not valid yet by this machine's clock",
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host',
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is not of the context's authority",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate is not of the context's authority",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its certificate is not of the context's authority",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its certificate is not of the context's authority",
};

/** Why a server could not be reached, in words of our own; undefined where there are none. */
export function reasonOf(cause: unknown): string | undefined {
  const { code, name } = (cause ?? {}) as { code?: unknown; name?: unknown };
  if (name === 'TimeoutError') return REASONS.ETIMEDOUT;
  return typeof code === 'string' ? REASONS[code] : undefined;
}

/** There was no answer. */
function unreachable({ context, isProxied }: KubeAccess, cause: unknown): Failure {
  const reason = reasonOf(cause);
  const why = reason === undefined ? '' : `: ${reason}`;
  const way = isProxied ? ' through its proxy' : '';
  return new Failure(
    'backend_unavailable',
    `The API server of context '${context}' cannot be reached${way}${why}.`,
    { cause },
  );
}
