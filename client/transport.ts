import { readBaseUrl } from './base-url.ts';
import type { PodgateOptions } from './options.ts';
import { invalidOption, PodgateError, parseProblem, redirectOf } from './podgate-error.ts';
import type { Started } from './types.ts';

export type Call = {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below the base URL, with a leading slash. */
  path: string;
  query?: Record<string, string | number | undefined> | undefined;
  headers?: Record<string, string | undefined> | undefined;
  /** Sent as JSON, in place of a body. */
  json?: object | undefined;
  /** Made anew for every attempt. */
  body?: (() => string | FormData | Blob | ReadableStream<Uint8Array<ArrayBuffer>>) | undefined;
  /** It is never sent twice: its body cannot be made again, or its answer is wanted whatever it is. */
  once?: boolean | undefined;
  signal?: AbortSignal | undefined;
  /** Sending it may start code: where its answer is lost, so is whether it did. */
  mayStart?: boolean | undefined;
};

export type Transport = {
  send(call: Call): Promise<Response>;
  /** A WebSocket of this subprotocol. Key and user travel among the subprotocols, never in the URL. */
  socket(path: string, query: Call['query'], subprotocol: string): WebSocket;
};

const MAX_RETRIES = 3;
const MAX_RETRY_AFTER_MS = 10_000;
/** Before the first retry where the server names no time; doubles. */
const BACKOFF_MS = 500;
/** What callers know headers as. */
const OPTION_OF: Readonly<Record<string, string>> = {
  authorization: 'key',
  'podgate-cluster': 'cluster',
  'podgate-user': 'user',
  'idempotency-key': 'idempotencyKey',
  'last-event-id': 'lastEventId',
};
/** What Node's fetch says where there never was a connection. */
const UNCONNECTED = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT'];
/** And where there was one whose certificate it would not send anything to. */
const UNTRUSTED = [
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
];
const RETRIED_STATUSES = [429, 503];
/** A session has room again as soon as something there has ended: what was just given up, say. */
const RETRIED_CODE = 'busy';
const LONE_SURROGATE = /\p{Surrogate}/u;
/** Of a failed answer's body: a proxy's error page can be anything. */
const MAX_PROBLEM_BYTES = 1_048_576;

/**
 * Sends calls and turns every answer outside 2xx into a PodgateError. Retries 429, 503 and `busy` that Podgate itself
 * calls retryable, at most three times, when it asks for at most ten seconds: nothing that may have started is sent twice.
 * Throws PodgateError for options that cannot be sent.
 */
export function createTransport(options: PodgateOptions): Transport {
  if (typeof options !== 'object' || options === null)
    throw invalidOption('options', 'must be an object that has a baseUrl');
  const { base, key } = readBaseUrl(options.baseUrl);
  const send = options.fetch ?? globalThis.fetch.bind(globalThis);
  if (typeof send !== 'function') throw invalidOption('fetch', 'must be a function');
  const common = {
    authorization: bearer(options.key ?? key),
    'podgate-cluster': options.cluster,
    'podgate-user': options.user,
  };
  headersOf(common);

  const attempt = async ({
    method,
    path,
    query,
    headers,
    body,
    signal,
    mayStart,
  }: Call): Promise<Response> => {
    signal?.throwIfAborted();
    const lost = (cause: unknown) => connectionLost(cause, signal, mayStart ? 'unknown' : null);
    const content = body?.();
    // Followed, a POST could become a GET, and code go to whoever is named.
    const init: RequestInit = { method, headers: headersOf({ ...common, ...headers }), redirect: 'manual' };
    if (content !== undefined) init.body = content;
    // What fetch wants for a body that comes while the answer may come too; the DOM's types do not know it.
    if (content instanceof ReadableStream) Object.assign(init, { duplex: 'half' });
    if (signal !== undefined) init.signal = signal;
    let response: Response;
    try {
      response = await send(urlOf(base, path, query), init);
    } catch (cause) {
      const code = signal?.aborted ? undefined : codeOfUnconnected(cause);
      if (code === undefined) throw lost(cause);
      const message = UNTRUSTED.includes(code)
        ? `The certificate of ${base.origin} is not trusted (${code}), so nothing was sent; NODE_EXTRA_CA_CERTS names a file of authorities to trust`
        : `No Podgate answers at ${base.origin} (${code}), so nothing was sent`;
      throw new PodgateError(message, { code: 'connection_lost', started: mayStart ? 'no' : null, cause });
    }
    if (response.ok) return response;
    const redirect = redirectOf(response);
    if (redirect) {
      void response.body?.cancel().catch(() => {});
      throw redirect;
    }
    const retryAfterMs = readRetryAfter(response.headers.get('retry-after'));
    const text = await readAtMost(response, MAX_PROBLEM_BYTES).catch((cause) => {
      throw lost(cause);
    });
    throw parseProblem(text, { status: response.status, retryAfterMs });
  };

  return {
    socket(path, query, subprotocol) {
      const url = urlOf(base, path, query);
      url.protocol = url.protocol.replace('http', 'ws');
      if (globalThis.WebSocket === undefined) {
        const message = 'A terminal needs a WebSocket, which Node has from version 22 on';
        throw new PodgateError(message, { code: 'no_terminal', started: 'no' });
      }
      const protocols = [subprotocol];
      const token = options.key ?? key;
      if (token !== undefined) protocols.push(`podgate.key.${token}`);
      if (options.user !== undefined) protocols.push(`podgate.user.${base64Url(options.user)}`);
      try {
        return new WebSocket(url, protocols);
      } catch {
        throw invalidOption('key', 'cannot be sent with a WebSocket: it is no JWT');
      }
    },
    async send(asked) {
      checkSignal(asked.signal);
      const call = withJson(asked);
      for (let retries = 0; ; retries++) {
        try {
          return await attempt(call);
        } catch (error) {
          const waitMs = retries < MAX_RETRIES && !call.once ? waitBeforeRetry(error, retries) : undefined;
          if (waitMs === undefined) throw error;
          await pause(waitMs, call.signal);
        }
      }
    },
  };
}

/** Throws PodgateError for what is given in place of a signal: a controller, most often, whose end nobody would hear of. */
export function checkSignal(signal: unknown): void {
  if (signal && typeof (signal as Partial<AbortSignal>).throwIfAborted !== 'function')
    throw invalidOption('signal', 'must be an AbortSignal, such as the signal of an AbortController');
}

/** Written once: every attempt sends the same. */
function withJson({ json, ...call }: Call): Call {
  if (json === undefined) return call;
  const text = JSON.stringify(json, (name, value) => {
    // JSON has null for these, which is a member that was not given, and for others nothing at all.
    if (typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value)))
      throw invalidOption(name || 'request', 'must be a finite number, and no bigint');
    return value;
  });
  return { ...call, headers: { 'content-type': 'application/json', ...call.headers }, body: () => text };
}

/** What a call rejects with when its connection breaks: the signal's reason where that was why. */
export function connectionLost(
  cause: unknown,
  signal: AbortSignal | undefined,
  started: Started | null,
): unknown {
  if (signal?.aborted) return signal.reason;
  if (cause instanceof PodgateError) return cause;
  const message = 'The connection to Podgate broke before its answer was complete';
  return new PodgateError(message, { code: 'connection_lost', started, cause });
}

function codeOfUnconnected(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as { code?: unknown };
    if (typeof code === 'string' && [...UNCONNECTED, ...UNTRUSTED].includes(code)) return code;
  }
  return undefined;
}

function waitBeforeRetry(error: unknown, retries: number): number | undefined {
  if (!(error instanceof PodgateError) || !error.retryable) return undefined;
  if (!RETRIED_STATUSES.includes(error.status ?? 0) && error.code !== RETRIED_CODE) return undefined;
  const backoffMs = BACKOFF_MS * 2 ** retries;
  // Many clients are sent away at once: they must not all come back at once.
  const jitterMs = Math.random() * backoffMs;
  if (error.retryAfterMs === null) return backoffMs / 2 + jitterMs / 2;
  if (error.retryAfterMs > MAX_RETRY_AFTER_MS) return undefined;
  return error.retryAfterMs + jitterMs / 2;
}

/** An id or name as a part of a path. What no URL can hold is refused when it is sent: nothing throws before. */
export function pathPart(text: string): string {
  return typeof text !== 'string' || LONE_SURROGATE.test(text) ? '' : encodeURIComponent(text);
}

function urlOf(base: URL, path: string, query: Call['query']): URL {
  const url = new URL(base);
  // A URL resolves these away, and what is left is another request.
  if (/\/\.{0,2}(?=\/|$)/.test(path))
    throw invalidOption('id', "or name must be text, not empty, '.' or '..', and hold no lone surrogate");
  url.pathname = base.pathname.replace(/\/+$/, '') + path;
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === undefined) continue;
    if (typeof value !== 'string' && typeof value !== 'number') throw invalidOption(name, 'must be text');
    // It would be sent as another character: the path of another file.
    if (LONE_SURROGATE.test(String(value))) throw invalidOption(name, 'must not hold a lone surrogate');
    url.searchParams.set(name, String(value));
  }
  return url;
}

function base64Url(text: string): string {
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

function bearer(key: string | undefined): string | undefined {
  return typeof key === 'string' ? `Bearer ${key}` : key;
}

/** Those that are given. Throws PodgateError for what no header can carry, which fetch would call a broken connection. */
function headersOf(given: Record<string, string | undefined>): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    // A header would hold `null` or `[object Object]`: one end user, or one execution, for all that have none.
    if (typeof value !== 'string') throw invalidOption(OPTION_OF[name] ?? name, 'must be text');
    try {
      new Headers([[name, value]]);
    } catch {
      throw invalidOption(OPTION_OF[name] ?? name, 'cannot be sent in a header: use printable ASCII');
    }
    headers[name] = value;
  }
  return headers;
}

/** Seconds or an HTTP date (RFC 9110 10.2.3); null for anything else. */
function readRetryAfter(value: string | null): number | null {
  if (value === null) return null;
  if (/^\d+(\.\d+)?$/.test(value.trim())) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : Math.max(0, at - Date.now());
}

async function readAtMost(response: Response, maxBytes: number): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return '';
  const decoder = new TextDecoder();
  let text = '';
  for (let bytes = 0; bytes < maxBytes; ) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.byteLength;
    text += decoder.decode(value, { stream: true });
  }
  await reader.cancel();
  return text;
}

/** Rejects with the signal's reason once that aborts. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end, { once: true });
    if (signal?.aborted) end();
  });
}
