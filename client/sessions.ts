import { discard, readJson } from './answers.ts';
import { followEvents } from './follow-events.ts';
import type { CallOptions, ExecuteOptions, PageOptions } from './options.ts';
import { Program } from './program.ts';
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
    const state = await send<SessionState>(this.#transport, 'POST', '/v1/sessions', {
      body: request,
      signal,
    });
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

  state({ signal }: CallOptions = {}): Promise<SessionState> {
    return send(this.#transport, 'GET', this.#path(), { signal });
  }

  /** It lives so long from now; never shorter than it would. */
  extend(ttl_seconds: number, { signal }: CallOptions = {}): Promise<SessionState> {
    return send(this.#transport, 'POST', this.#path('/extend'), { body: { ttl_seconds }, signal });
  }

  /** Runs a shell command in the workspace and resolves when it has ended, with all that it started. */
  bash(request: string | BashRequest, options: ExecuteOptions = {}): Promise<BashResult> {
    const body = typeof request === 'string' ? { cmd: request } : request;
    return send(this.#transport, 'POST', this.#path('/bash'), { ...options, body, mayStart: true });
  }

  /** The same as it happens: output, then exactly one `result`. Leaving the loop ends the command. */
  async *bashStream(
    request: string | BashRequest,
    { signal }: CallOptions = {},
  ): AsyncGenerator<BashEvent, void, undefined> {
    const body = typeof request === 'string' ? { cmd: request } : request;
    yield* followEvents<BashEnd>(await this.#start('/bash/stream', body, signal), signal);
  }

  /** Begins a shell command whose standard input stays open, and resolves once it runs. */
  async spawn(request: string | BashRequest, { signal }: CallOptions = {}): Promise<Program<BashEnd>> {
    const body = { ...(typeof request === 'string' ? { cmd: request } : request), input: true };
    return new Program(this.#transport, await this.#start('/bash/stream', body, signal), signal);
  }

  /** Begins a piece of Python, and resolves once it runs: it can be interrupted, and fed where `input` asks for it. */
  async begin(
    request: string | PythonStreamRequest,
    { signal }: CallOptions = {},
  ): Promise<Program<PythonEnd>> {
    const body = typeof request === 'string' ? { code: request } : request;
    return new Program(this.#transport, await this.#start('/execute/stream', body, signal), signal);
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
    const path = this.#path(`/terminals/${pathPart(name)}`);
    await discard(await this.#transport.send({ method: 'DELETE', path, signal }));
  }

  /** Runs Python in an interpreter that remembers. */
  execute(request: string | PythonRequest, options: ExecuteOptions = {}): Promise<PythonResult> {
    const body = typeof request === 'string' ? { code: request } : request;
    return send(this.#transport, 'POST', this.#path('/execute'), { ...options, body, mayStart: true });
  }

  /** The same as it happens. */
  async *stream(
    request: string | PythonRequest,
    { signal }: CallOptions = {},
  ): AsyncGenerator<PythonEvent, void, undefined> {
    const body = typeof request === 'string' ? { code: request } : request;
    yield* followEvents<PythonEnd>(await this.#start('/execute/stream', body, signal), signal);
  }

  /** Ends an interpreter: the next execution in its context finds a new one. */
  async restart(context = 'main', { signal }: CallOptions = {}): Promise<void> {
    await discard(await this.#start(`/contexts/${pathPart(context)}/restart`, {}, signal));
  }

  /** Ends it, and all that runs in it. */
  async end({ signal }: CallOptions = {}): Promise<void> {
    await discard(await this.#transport.send({ method: 'DELETE', path: this.#path(), signal }));
  }

  /** Ends it; one that has ended already is as good. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.end().catch((error: unknown) => {
      if ((error as { status?: unknown }).status !== 404) throw error;
    });
  }

  #start(path: string, request: object, signal: AbortSignal | undefined): Promise<Response> {
    const body = JSON.stringify(request);
    const headers = { 'content-type': 'application/json' };
    return this.#transport.send({
      method: 'POST',
      path: this.#path(path),
      headers,
      body: () => body,
      signal,
      mayStart: true,
    });
  }

  #path(rest = ''): string {
    return `/v1/sessions/${pathPart(this.id)}${rest}`;
  }
}

async function send<Answer>(
  transport: Transport,
  method: Call['method'],
  path: string,
  { body, signal, mayStart, idempotencyKey }: ExecuteOptions & { body?: object; mayStart?: boolean },
): Promise<Answer> {
  const text = body && JSON.stringify(body);
  const response = await transport.send({
    method,
    path,
    signal,
    mayStart,
    ...(text !== undefined && {
      headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
      body: () => text,
    }),
  });
  return readJson<Answer>(response, signal, mayStart ? 'unknown' : null);
}
