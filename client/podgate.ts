import { bytesOf, discard, malformed, readJson } from './answers.ts';
import { blobOf, type Content } from './content.ts';
import type { CallOptions, ExecuteOptions, PageOptions, PodgateOptions } from './options.ts';
import { invalidOption } from './podgate-error.ts';
import { resumeEvents } from './resume-events.ts';
import { Sessions } from './sessions.ts';
import { type Call, createTransport, pathPart, type Transport } from './transport.ts';
import type {
  ClusterPage,
  Download,
  ExecuteRequest,
  ExecuteResult,
  ExecutionStatus,
  FilePage,
  NumberedEvent,
  StreamEvent,
  UploadedFile,
} from './types.ts';

export type { Content } from './content.ts';
export type * from './options.ts';
export { PodgateError, type PodgateErrorDetails } from './podgate-error.ts';
export type { Program, WriteOptions } from './program.ts';
export type { SessionFiles } from './session-files.ts';
export type * from './session-types.ts';
export type { Session } from './sessions.ts';
export type { Terminal, TerminalEvent, TerminalRequest, TerminalState } from './terminal.ts';
export type * from './types.ts';

/**
 * A client of Podgate's HTTP API. Every method rejects with PodgateError, or with its signal's reason.
 *
 * @example
 * const podgate = new Podgate({ baseUrl: 'http://127.0.0.1:8000', key });
 * const { stdout } = await podgate.execute('print(6 * 7)');
 * console.log(stdout);
 */
export class Podgate {
  readonly #transport: Transport;
  readonly files: Files;
  readonly clusters: Clusters;
  readonly executions: Executions;
  readonly sessions: Sessions;

  /** Throws PodgateError `invalid_request` for options that cannot be sent. */
  constructor(options: PodgateOptions) {
    this.#transport = createTransport(options);
    this.files = new Files(this.#transport);
    this.clusters = new Clusters(this.#transport);
    this.executions = new Executions(this.#transport);
    this.sessions = new Sessions(this.#transport);
  }

  /**
   * Runs code, Python unless told, and resolves when it has ended, however it ended. Node's fetch waits five minutes for an
   * answer: what may take longer is for `stream` or `start`.
   */
  async execute(request: string | ExecuteRequest, options: ExecuteOptions = {}): Promise<ExecuteResult> {
    const response = await this.#transport.send(executeCall('/v1/execute', request, options));
    return readJson<ExecuteResult>(response, options.signal, 'unknown');
  }

  /**
   * Runs code and yields its output as it happens, then exactly one `result`. Leaving the loop cancels it, unless it has
   * an idempotency key or `detach`: such an execution goes on, and where the connection breaks or its gateway
   * shuts down the loop goes on too, behind the last event that came.
   */
  async *stream(
    request: string | ExecuteRequest,
    options: ExecuteOptions = {},
  ): AsyncGenerator<StreamEvent, void, undefined> {
    const response = await this.#transport.send(executeCall('/v1/execute/stream', request, options));
    const survives = options.idempotencyKey !== undefined || asRequest(request).detach === true;
    const id = survives ? response.headers.get('podgate-execution-id') : null;
    for await (const { id: _, ...event } of resumeEvents(this.#transport, { response, id }, options.signal))
      yield event;
  }

  /** Begins an execution that runs on by itself; resolves to its id once its code has begun. */
  async start(request: string | ExecuteRequest, options: ExecuteOptions = {}): Promise<string> {
    const detached = { ...asRequest(request), detach: true };
    const response = await this.#transport.send(executeCall('/v1/execute/stream', detached, options));
    await discard(response);
    const id = response.headers.get('podgate-execution-id');
    if (id === null) throw malformed('unknown');
    return id;
  }
}

/** The caller's files: they expire, an hour after upload unless the gateway says otherwise. */
class Files {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Stores a file, up to what its key and gateway allow. */
  async upload(
    content: Content,
    { filename, signal }: CallOptions & { filename: string },
  ): Promise<UploadedFile> {
    if (typeof filename !== 'string') throw invalidOption('filename', 'must be text');
    const blob = blobOf(content);
    const body = () => {
      const form = new FormData();
      form.append('file', blob, filename);
      return form;
    };
    return readJson(await this.#transport.send({ method: 'POST', path: '/v1/files', body, signal }), signal);
  }

  /** One page, oldest first; `next_cursor` leads to the next. */
  async list({ signal, ...query }: PageOptions = {}): Promise<FilePage> {
    return readJson(await this.#transport.send({ method: 'GET', path: '/v1/files', query, signal }), signal);
  }

  /** Its name, size and bytes; these as a stream, which is to be read or cancelled. */
  async download(id: string, { signal }: CallOptions = {}): Promise<Download> {
    const path = `/v1/files/${pathPart(id)}`;
    const response = await this.#transport.send({ method: 'GET', path, signal });
    const { headers } = response;
    const length = headers.get('content-length');
    return {
      filename: readFilename(headers.get('content-disposition') ?? '') ?? id,
      size_bytes: length === null ? null : Number(length),
      body: bytesOf(response, signal),
    };
  }

  /** Deletes a file at once; 404 `not_found` where there is none. */
  async delete(id: string, { signal }: CallOptions = {}): Promise<void> {
    await discard(
      await this.#transport.send({ method: 'DELETE', path: `/v1/files/${pathPart(id)}`, signal }),
    );
  }
}

/** The clusters that the key may use. */
class Clusters {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** One page, by name; `next_cursor` leads to the next. */
  async list({ signal, ...query }: PageOptions = {}): Promise<ClusterPage> {
    return readJson(
      await this.#transport.send({ method: 'GET', path: '/v1/clusters', query, signal }),
      signal,
    );
  }
}

/** Executions by id, until ten minutes after their end. */
class Executions {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** How it is doing, or how it ended. */
  async get(id: string, { signal }: CallOptions = {}): Promise<ExecutionStatus> {
    const path = `/v1/executions/${pathPart(id)}`;
    return readJson(await this.#transport.send({ method: 'GET', path, signal }), signal);
  }

  /**
   * Yields what an execution has said and is still to say, from its first byte or behind `lastEventId`, then exactly one
   * `result`. Where the connection breaks or its gateway shuts down it goes on behind the last event that came. Leaving
   * the loop ends nothing.
   */
  events(
    id: string,
    { signal, lastEventId }: CallOptions & { lastEventId?: string | undefined } = {},
  ): AsyncGenerator<NumberedEvent, void, undefined> {
    return resumeEvents(this.#transport, { id, lastEventId }, signal);
  }

  /** Ends it. One that has ended already is as good. */
  async cancel(id: string, { signal }: CallOptions = {}): Promise<void> {
    const path = `/v1/executions/${pathPart(id)}`;
    await discard(await this.#transport.send({ method: 'DELETE', path, signal }));
  }
}

function executeCall(
  path: string,
  request: string | ExecuteRequest,
  { idempotencyKey, signal }: ExecuteOptions,
): Call {
  const headers = { 'idempotency-key': idempotencyKey };
  return { method: 'POST', path, headers, json: asRequest(request), signal, mayStart: true };
}

function asRequest(request: string | ExecuteRequest): ExecuteRequest {
  return typeof request === 'string' ? { code: request } : request;
}

const QUOTED = /"((?:[^"\\]|\\.)*)"/g;

/** `filename*` of RFC 6266, else the plain one. What stands in quotes is a name, whatever it looks like. */
function readFilename(disposition: string): string | undefined {
  const extended = /filename\*=UTF-8''([^;\s]+)/i.exec(disposition.replace(QUOTED, '""'))?.[1];
  if (extended !== undefined) {
    try {
      return decodeURIComponent(extended);
    } catch {
      // The plain name is better than none.
    }
  }
  return /filename="((?:[^"\\]|\\.)*)"/i.exec(disposition)?.[1]?.replace(/\\(.)/g, '$1');
}
