import type { Duplex } from 'node:stream';
import { buildConnector, type Dispatcher, Pool } from 'undici';
import * as z from 'zod';
import { Failure } from '../../../shared/errors.ts';
import { readLines } from '../bounded-text.ts';
import type { EngineAddress } from './engine-address.ts';
import { ANSWER, MAX_ANSWER_BYTES, parseAnswer, readAnswer, refusedWith } from './engine-answer.ts';
import { EngineRefusal, unreachable } from './engine-failure.ts';
import { type EngineProduct, productOf } from './engine-product.ts';

const MAX_LINE_BYTES = 1_048_576;
const MAX_CONNECTIONS = 256;
const CONNECT_TIMEOUT_MS = 10_000;
const NO_UPGRADE =
  'The engine, or a proxy before it, hands no connection over: let it pass Upgrade headers on.';
export const REQUEST_TIMEOUT_MS = 60_000;
/** The oldest version of the API that has all that is used here; newer engines may have dropped it for a newer one. */
export const OLDEST_API = '1.41';

export type EngineCall = {
  method: 'GET' | 'POST' | 'DELETE';
  /** Behind the version: `/containers/json`. */
  path: string;
  query?: Readonly<Record<string, string>>;
  body?: object;
  headers?: Readonly<Record<string, string>>;
  signal?: AbortSignal;
  /** Null: as long as the signal lets it. */
  timeoutMs?: number | null;
  /** Of an answer; 4 MiB unless given. */
  maxBytes?: number;
};

export type EngineVersion = {
  readonly version: string;
  readonly apiVersion: string;
  readonly product: EngineProduct;
};

/** The Engine API. The only place that knows of HTTP; counts calls, so that tests can say how many an execution took. */
export type EngineClient = {
  readonly shown: string;
  readonly calls: number;
  /** Finds a version of the API in common; before it nothing else can be called. Rejects with a Failure. */
  negotiate(signal?: AbortSignal): Promise<EngineVersion>;
  /** The answer's body. Rejects with an EngineRefusal (the engine said no) or another Failure (no answer). */
  call<T = unknown>(call: EngineCall, shape?: z.ZodType<T>): Promise<T>;
  /** The same for an answer that is no JSON. */
  text(call: EngineCall): Promise<string>;
  /** JSON values, line by line, as they come. */
  follow<T>(call: EngineCall): AsyncGenerator<T>;
  /** Sends a request and takes over its connection: bytes both ways, as the engine sends them. */
  hijack(call: EngineCall): Promise<Duplex>;
  close(): void;
};

export function createEngineClient(address: EngineAddress): EngineClient {
  const pool = openPool(address);
  let prefix: string | undefined;
  let calls = 0;

  function optionsOf(call: EngineCall, root: string) {
    calls += 1;
    const query = call.query === undefined ? '' : `?${new URLSearchParams(call.query)}`;
    return {
      method: call.method,
      path: `${root}${call.path}${query}`,
      headers: {
        'user-agent': 'podgate',
        ...call.headers,
        ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: call.body === undefined ? null : JSON.stringify(call.body),
    };
  }

  /** The one place that gives a request its time. */
  function signalOf({ signal, timeoutMs = REQUEST_TIMEOUT_MS }: EngineCall): AbortSignal | undefined {
    if (timeoutMs === null) return signal;
    const deadline = AbortSignal.timeout(timeoutMs);
    return signal ? AbortSignal.any([signal, deadline]) : deadline;
  }

  async function send(call: EngineCall, root: string): Promise<Dispatcher.ResponseData> {
    const signal = signalOf(call);
    try {
      return await pool.request({ ...optionsOf(call, root), ...(signal ? { signal } : {}) });
    } catch (cause) {
      throw failureOf(call, cause);
    }
  }

  async function answer(call: EngineCall, root: string): Promise<string> {
    const response = await send(call, root);
    try {
      return await readAnswer(response, call.maxBytes ?? MAX_ANSWER_BYTES);
    } catch (cause) {
      throw failureOf(call, cause);
    }
  }

  async function negotiate(signal?: AbortSignal): Promise<EngineVersion> {
    const call: EngineCall = { method: 'GET', path: '/version', ...(signal ? { signal } : {}) };
    const found = parseAnswer(await answer(call, ''), ANSWER.version);
    if (!isAtLeast(found.ApiVersion, OLDEST_API))
      throw new Failure(
        'backend_unavailable',
        `The engine speaks version ${found.ApiVersion} of its API; ${OLDEST_API} is needed: use Docker 20.10 or newer.`,
      );
    prefix = `/v${isAtLeast(found.MinAPIVersion, OLDEST_API) ? found.MinAPIVersion : OLDEST_API}`;
    return {
      version: found.Version ?? 'unknown',
      apiVersion: prefix.slice(2),
      product: productOf(found.Components),
    };
  }

  /** An engine that was replaced by another one may no longer know the version. */
  async function withVersion<T>(call: EngineCall, use: (root: string) => Promise<T>): Promise<T> {
    if (prefix === undefined) await negotiate(call.signal);
    try {
      return await use(prefix as string);
    } catch (cause) {
      if (!(cause instanceof EngineRefusal) || !/client version .* is too (old|new)/.test(cause.words))
        throw cause;
      await negotiate(call.signal);
      return use(prefix as string);
    }
  }

  async function* follow<T>(call: EngineCall): AsyncGenerator<T> {
    const response = await withVersion(call, async (root) => {
      const sent = await send(call, root);
      if (sent.statusCode >= 400) await readAnswer(sent, MAX_ANSWER_BYTES);
      return sent;
    });
    try {
      for await (const line of readLines(response.body, MAX_LINE_BYTES)) yield JSON.parse(line) as T;
    } catch (cause) {
      throw failureOf(call, cause);
    } finally {
      response.body.destroy();
    }
  }

  function takeOver(call: EngineCall, root: string): Promise<Duplex> {
    const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
    const signal = signalOf(call);
    let controller: Dispatcher.DispatchController | undefined;
    const abort = () => controller?.abort(signal?.reason);
    const settle = (outcome: () => void) => {
      signal?.removeEventListener('abort', abort);
      outcome();
    };
    let status = 0;
    const held: Buffer[] = [];
    pool.dispatch(
      { ...optionsOf(call, root), upgrade: 'tcp' },
      {
        onRequestStart(started) {
          controller = started;
          if (signal?.aborted) abort();
          else signal?.addEventListener('abort', abort, { once: true });
        },
        onRequestUpgrade: (_controller, _status, _headers, socket) => settle(() => resolve(socket)),
        onResponseStart(_controller, statusCode) {
          status = statusCode;
          // What would follow never ends.
          if (status < 400) controller?.abort(new Failure('backend_unavailable', NO_UPGRADE));
        },
        onResponseData: (_controller, chunk) => void (held.length < 64 && held.push(chunk)),
        onResponseEnd: () => settle(() => reject(refusedWith(status, Buffer.concat(held).toString('utf8')))),
        onResponseError: (_controller, cause) => settle(() => reject(failureOf(call, cause))),
      },
    );
    return promise;
  }

  return {
    get shown() {
      return address.shown;
    },
    get calls() {
      return calls;
    },
    negotiate,
    call: async <T>(call: EngineCall, shape = z.unknown() as z.ZodType<T>) =>
      parseAnswer(await withVersion(call, (root) => answer(call, root)), shape),
    text: (call) => withVersion(call, (root) => answer(call, root)),
    follow,
    hijack: (call) => withVersion(call, (root) => takeOver(call, root)),
    close: () => void pool.destroy(),
  };
}

function openPool(address: EngineAddress): Pool {
  const common = { timeout: CONNECT_TIMEOUT_MS, allowH2: false };
  const connect: buildConnector.connector = (options, callback) => {
    try {
      const connector =
        address.kind === 'socket'
          ? buildConnector({ ...common, socketPath: address.path() })
          : buildConnector({ ...common, ...address.tls?.(), rejectUnauthorized: true });
      connector(options, callback);
    } catch (cause) {
      callback(cause as Error, null);
    }
  };
  const host = address.kind === 'tcp' && address.host.includes(':') ? `[${address.host}]` : undefined;
  const origin =
    address.kind === 'socket'
      ? 'http://docker'
      : `${address.tls ? 'https' : 'http'}://${host ?? address.host}:${address.port}`;
  // Each call has a signal for its time; some wait for minutes.
  return new Pool(origin, { connect, connections: MAX_CONNECTIONS, headersTimeout: 0, bodyTimeout: 0 });
}

/** What the caller gave up is its own affair; everything else is a Failure. */
function failureOf({ signal }: EngineCall, cause: unknown): unknown {
  if (signal?.aborted) return signal.reason;
  return cause instanceof Failure ? cause : unreachable(cause);
}

/** `1.100` is newer than `1.41`. What is no version is older than any. */
function isAtLeast(version: string | undefined, oldest: string): boolean {
  if (!/^\d{1,4}\.\d{1,4}$/.test(version ?? '')) return false;
  const [major = 0, minor = 0] = (version ?? '').split('.').map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = oldest.split('.').map(Number);
  return major > oldestMajor || (major === oldestMajor && minor >= oldestMinor);
}
