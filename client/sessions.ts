// A page in a browser may name no library that knows AsyncDisposable.
/// <reference lib="esnext.disposable" preserve="true" />

import { discard, readJson } from './answers.ts';
import { followEvents } from './follow-events.ts';
import type { CallOptions, ExecuteOptions, PageOptions } from './options.ts';
import { Program } from './program.ts';
import { resumeEvents } from './resume-events.ts';
import { SessionFiles } from './session-files.ts';
import type {
  BashEnd,
  BashEvent,
  BashRequest,
  BashResult,
  PythonEnd,
  PythonEvent,
  PythonRequest,
  PythonResult,
  PythonStreamRequest,
  SessionPage,
  SessionRequest,
  SessionState,
} from './session-types.ts';
import { openTerminal, type Terminal, type TerminalRequest } from './terminal.ts';
import { type Call, pathPart, type Transport } from './transport.ts';
import type { GapEvent, OutputEvent } from './types.ts';

/** Sandboxes that stay: what one command leaves, the next finds. */
export class Sessions {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Makes one.
   *
   * @example
   * await using session = await podgate.sessions.create({ ttl_seconds: 3600 });
   * await session.bash('git clone /tmp/repo');
   */
  async create(request: SessionRequest = {}, { signal }: CallOptions = {}): Promise<Session> {
    const call = { method: 'POST', path: '/v1/sessions', json: request, signal } as const;
    const state = await readJson<SessionState>(await this.#transport.send(call), signal);
    return new Session(this.#transport, state.session_id, state);
  }

  /** One that exists, by its id; nothing is asked yet. */
  open(id: string): Session {
    return new Session(this.#transport, id);
  }

  /** One page, the oldest first; `next_cursor` leads to the next. */
  async list({ signal, ...query }: PageOptions = {}): Promise<SessionPage> {
    return readJson(
      await this.#transport.send({ method: 'GET', path: '/v1/sessions', query, signal }),
      signal,
    );
  }
}

/** One session. Every method rejects with PodgateError, or with its signal's reason. */
export class Session implements AsyncDisposable {
  readonly #transport: Transport;
  readonly id: string;
  /** As it was when it was made; undefined for one that was opened by its id. */
  readonly created: SessionState | undefined;
  readonly files: SessionFiles;

  constructor(transport: Transport, id: string, created?: SessionState) {
    this.#transport = transport;
    this.id = id;
    this.created = created;
    this.files = new SessionFiles(transport, this.#path());
  }

  /** How it is now. */
  state({ signal }: CallOptions = {}): Promise<SessionState> {
    return this.#ask('GET', '', { signal });
  }

  /** It lives so long from now; never shorter than it would. */
  extend(ttl_seconds: number, { signal }: CallOptions = {}): Promise<SessionState> {
    return this.#ask('POST', '/extend', { json: { ttl_seconds }, signal });
  }

  /** Runs a shell command in the workspace and resolves when it has ended, with all that it started. */
  bash(request: string | BashRequest, options: ExecuteOptions = {}): Promise<BashResult> {
    return this.#ask('POST', '/bash', { ...options, json: asCommand(request), mayStart: true });
  }

  /**
   * The same as it happens: output, then exactly one `result`. Leaving the loop ends the command, unless it has an
   * idempotency key: it goes on, and so does the loop where the connection breaks or its gateway shuts down.
   */
  bashStream(
    request: string | BashRequest,
    options: ExecuteOptions = {},
  ): AsyncGenerator<BashEvent, void, undefined> {
    return this.#stream<BashEnd>('/bash/stream', asCommand(request), options);
  }

  /** Begins a shell command whose standard input stays open, and resolves once it runs. */
  async spawn(request: string | BashRequest, { signal }: CallOptions = {}): Promise<Program<BashEnd>> {
    const json = { ...asCommand(request), input: true };
    return new Program(this.#transport, await this.#start('/bash/stream', json, signal), signal);
  }

  /** Runs Python in an interpreter that remembers, and resolves when it has ended. */
  execute(request: string | PythonRequest, options: ExecuteOptions = {}): Promise<PythonResult> {
    return this.#ask('POST', '/execute', { ...options, json: asCode(request), mayStart: true });
  }

  /** The same as it happens, as `bashStream` does. */
  stream(
    request: string | PythonRequest,
    options: ExecuteOptions = {},
  ): AsyncGenerator<PythonEvent, void, undefined> {
    return this.#stream<PythonEnd>('/execute/stream', asCode(request), options);
  }

  /** Begins a piece of Python, and resolves once it runs: it can be interrupted, and fed where `input` asks for it. */
  async begin(
    request: string | PythonStreamRequest,
    { signal }: CallOptions = {},
  ): Promise<Program<PythonEnd>> {
    const response = await this.#start('/execute/stream', asCode(request), signal);
    return new Program(this.#transport, response, signal);
  }

  /** Ends an interpreter: the next execution in its context finds a new one. */
  async restart(context = 'main', { signal }: CallOptions = {}): Promise<void> {
    await discard(await this.#start(`/contexts/${pathPart(context)}/restart`, {}, signal));
  }

  /**
   * An interactive terminal, which is opened where there is none of that name. Whoever attaches takes the place of whoever
   * did before; it goes on when nobody looks.
   */
  terminal(request: TerminalRequest = {}, { signal }: CallOptions = {}): Promise<Terminal> {
    const { name = 'main', ...query } = request;
    return openTerminal(this.#transport, this.#path(`/terminals/${pathPart(name)}`), query, signal);
  }

  /** Ends a terminal, and all that runs in it. */
  async endTerminal(name = 'main', { signal }: CallOptions = {}): Promise<void> {
    await discard(await this.#send('DELETE', `/terminals/${pathPart(name)}`, { signal }));
  }

  /** Ends it, and all that runs in it. */
  async end({ signal }: CallOptions = {}): Promise<void> {
    await discard(await this.#send('DELETE', '', { signal }));
  }

  /** Ends it; one that has ended already is as good. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.end().catch((error: unknown) => {
      if ((error as { status?: unknown }).status !== 404) throw error;
    });
  }

  async *#stream<End extends object>(
    path: string,
    json: object,
    { signal, idempotencyKey }: ExecuteOptions,
  ): AsyncGenerator<OutputEvent | GapEvent | ({ type: 'result' } & End), void, undefined> {
    const response = await this.#start(path, json, signal, idempotencyKey);
    if (idempotencyKey === undefined) return yield* followEvents<End>(response, signal);
    const id = response.headers.get('podgate-execution-id');
    for await (const { id: _, ...event } of resumeEvents(this.#transport, { response, id }, signal))
      yield event as OutputEvent | GapEvent | ({ type: 'result' } & End);
  }

  async #ask<Answer>(
    method: Call['method'],
    path: string,
    { json, mayStart, signal, idempotencyKey }: ExecuteOptions & Pick<Call, 'json' | 'mayStart'>,
  ): Promise<Answer> {
    const headers = { 'idempotency-key': idempotencyKey };
    const response = await this.#send(method, path, { json, headers, signal, mayStart });
    return readJson<Answer>(response, signal, mayStart ? 'unknown' : null);
  }

  #start(
    path: string,
    json: object,
    signal: AbortSignal | undefined,
    idempotencyKey?: string,
  ): Promise<Response> {
    const headers = { 'idempotency-key': idempotencyKey };
    return this.#send('POST', path, { json, headers, signal, mayStart: true });
  }

  #send(method: Call['method'], path: string, rest: Omit<Call, 'method' | 'path'>): Promise<Response> {
    return this.#transport.send({ method, path: this.#path(path), ...rest });
  }

  #path(rest = ''): string {
    return `/v1/sessions/${pathPart(this.id)}${rest}`;
  }
}

function asCommand(request: string | BashRequest): BashRequest {
  return typeof request === 'string' ? { cmd: request } : request;
}

function asCode(request: string | PythonStreamRequest): PythonStreamRequest {
  return typeof request === 'string' ? { code: request } : request;
}
