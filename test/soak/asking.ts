import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { readServerSentEvents } from '../../client/server-sent-events.ts';
import type { ExecuteRequest } from '../../client/types.ts';
import { type Reading, sha256 } from './programs.ts';

export type Failed = {
  code: string;
  started: string;
  retryable: boolean;
  status: number;
  detail: string;
  /** Null where a stream told it. */
  requestId: string | null;
};
export type Ended = {
  exitCode: number | null;
  outcome: string;
  timedOut: boolean;
  stdout: string;
  stderr: string;
  /** Output is missing at its end, and the answer says so. */
  cut: boolean;
};

/** What the caller saw of one execution, and when, in Unix time in ms. Output as digests. */
export type Seen = { readonly executionId: string | null; readonly tookMs: number; readonly atMs: number } & (
  | ({ readonly saw: 'result' } & Ended)
  | ({ readonly saw: 'failure' } & Failed)
  /** The connection broke, or ended before the answer did. */
  | { readonly saw: 'break'; readonly cause: string }
  /** The caller went away itself. */
  | { readonly saw: 'nothing' }
  /** Not an answer of Podgate's. */
  | { readonly saw: 'nonsense'; readonly cause: string }
  | { readonly saw: 'silence' }
  /** Output that its agent does not keep any more. */
  | { readonly saw: 'gap' }
);

export type Asking = AsyncDisposable & {
  /** Sends it once and sees what comes of it. `patienceMs` bounds the wait for the end of the answer. */
  ask(sent: ExecuteRequest, reading: Reading, patienceMs: number, how?: How): Promise<Seen>;
};

/** An `Idempotency-Key`; when the caller goes away, if it does. */
export type How = { key?: string; leaveMs?: number | undefined };

/** An execution that nobody can tell of for so long has gone with its instance. */
const GONE_MS = 45_000;
const ASK_AGAIN_MS = 300;
const MAX_IDLE_MS = 60_000;
/** Of what is no answer. */
const SHOWN_CHARS = 500;

class Left extends Error {}
class Silence extends Error {}
class Gap extends Error {}

/** A caller that keeps its connection from one request to the next, as clients do. */
export function createAsking(url: string, key: string): Asking {
  // Without a timeout of its own Node heeds no server's word on how long a connection is kept.
  const agent = new Agent({ keepAlive: true, maxSockets: 1, timeout: MAX_IDLE_MS });
  /** Where the newest request went, and when the connection was used last. */
  let used = { where: 'on none', atMs: 0 };

  async function ask(
    sent: ExecuteRequest,
    reading: Reading,
    patienceMs: number,
    { key, leaveMs = reading.as === 'leaver' ? reading.afterMs : undefined }: How = {},
  ): Promise<Seen> {
    const beganMs = performance.now();
    let executionId: string | null = null;
    const took = () => ({ executionId, tookMs: performance.now() - beganMs, atMs: Date.now() });
    const ending = new AbortController();
    const patience = setTimeout(() => ending.abort(new Silence()), patienceMs);
    const leave = leaveMs === undefined ? undefined : setTimeout(() => ending.abort(new Left()), leaveMs);
    try {
      const streamed = reading.as !== 'json' && reading.as !== 'leaver';
      const body = reading.as === 'detached' ? { ...sent, detach: true } : sent;
      const answer = await send('POST', streamed ? '/v1/execute/stream' : '/v1/execute', ending.signal, {
        body,
        idempotencyKey: key,
      });
      executionId = String(answer.headers['podgate-execution-id'] ?? '') || null;
      const seen =
        answer.statusCode !== 200
          ? await readProblem(answer)
          : !streamed
            ? readResult(await readJson(answer))
            : reading.as === 'detached'
              ? await follow(answer, reading, executionId ?? '', ending.signal)
              : await readStream(answer, reading, startOutput());
      return { ...took(), ...seen };
    } catch (error) {
      const { reason } = ending.signal;
      if (reason instanceof Left) return { ...took(), saw: 'nothing' };
      if (reason instanceof Silence) return { ...took(), saw: 'silence' };
      if (error instanceof Gap) return { ...took(), saw: 'gap' };
      if (error instanceof SyntaxError || error instanceof TypeError)
        return { ...took(), saw: 'nonsense', cause: String(error) };
      const { code = '', message } = error as NodeJS.ErrnoException;
      return { ...took(), saw: 'break', cause: `${code} ${message}, ${used.where}` };
    } finally {
      clearTimeout(patience);
      clearTimeout(leave);
      ending.abort();
    }
  }

  /** Leaves an execution that goes on without it, and reads the rest by its id, through whichever gateway answers. */
  async function follow(
    first: IncomingMessage,
    reading: Reading & { as: 'detached' },
    id: string,
    signal: AbortSignal,
  ): Promise<StreamEnd> {
    const output = startOutput();
    const leave = setTimeout(() => first.destroy(new Left()), reading.afterMs);
    let answer: IncomingMessage | undefined = first;
    let unheardMs = performance.now();
    for (;;) {
      try {
        answer ??= await send('GET', `/v1/executions/${id}/events`, signal, { lastId: output.lastId });
        const end: StreamEnd =
          answer.statusCode === 200 ? await readStream(answer, reading, output) : await readProblem(answer);
        // Whoever is asked may be on its way out, or without a link: another one, or the same later, knows more.
        if (end.saw === 'result' || !['draining', 'no_agent', 'at_capacity'].includes(end.code)) return end;
        if (performance.now() - unheardMs > GONE_MS)
          return { ...end, code: 'agent_lost', started: 'unknown', retryable: false, status: 502 };
      } catch (error) {
        if (signal.aborted || error instanceof TypeError || error instanceof Gap) throw error;
        if (output.fresh) unheardMs = performance.now();
        output.fresh = false;
      } finally {
        clearTimeout(leave);
      }
      answer = undefined;
      await sleep(ASK_AGAIN_MS, undefined, { signal });
    }
  }

  async function send(
    method: 'GET' | 'POST',
    path: string,
    signal: AbortSignal,
    {
      body,
      lastId,
      idempotencyKey,
    }: { body?: ExecuteRequest; lastId?: string | undefined; idempotencyKey?: string | undefined },
  ): Promise<IncomingMessage> {
    const sentText = body && JSON.stringify(body);
    const outgoing = request(url + path, {
      method,
      agent,
      signal,
      headers: {
        authorization: `Bearer ${key}`,
        ...(sentText && {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(sentText),
        }),
        ...(lastId && { 'last-event-id': lastId }),
        ...(idempotencyKey && { 'idempotency-key': idempotencyKey }),
      },
    });
    outgoing.once('socket', () => {
      const sinceMs = Math.round(performance.now() - used.atMs);
      const where = outgoing.reusedSocket
        ? `on a connection last asked ${sinceMs} ms before`
        : 'on a new connection';
      used = { where, atMs: performance.now() };
    });
    outgoing.end(sentText);
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage];
    outgoing.on('error', () => {});
    return answer;
  }

  return {
    ask,
    async [Symbol.asyncDispose]() {
      agent.destroy();
    },
  };
}

type ResultBody = {
  exit_code: number | null;
  outcome: string;
  timed_out: boolean;
  stdout_truncated: boolean;
  stderr_truncated: boolean;
};

function endOf(body: ResultBody): Omit<Ended, 'stdout' | 'stderr'> {
  const { exit_code, outcome, timed_out, stdout_truncated, stderr_truncated } = body;
  return { exitCode: exit_code, outcome, timedOut: timed_out, cut: stdout_truncated || stderr_truncated };
}

function readResult(value: unknown): { saw: 'result' } & Ended {
  const body = value as ResultBody & { stdout: string; stderr: string };
  return { saw: 'result', ...endOf(body), stdout: sha256(body.stdout), stderr: sha256(body.stderr) };
}

async function readJson(answer: IncomingMessage): Promise<unknown> {
  const body = await text(answer);
  try {
    return JSON.parse(body);
  } catch {
    const head = `${answer.statusCode} ${JSON.stringify(answer.headers)}`;
    throw new TypeError(`no JSON: ${head} ${JSON.stringify(body.slice(0, SHOWN_CHARS))}`);
  }
}

async function readProblem(answer: IncomingMessage): Promise<{ saw: 'failure' } & Failed> {
  const body = (await readJson(answer)) as Partial<Failed> & { request_id?: string };
  const status = answer.statusCode ?? 0;
  const { code = 'none', started = 'no', retryable = false, detail = '' } = body;
  return { saw: 'failure', code, started, retryable, status, detail, requestId: body.request_id ?? null };
}

type StreamEnd = ({ saw: 'result' } & Ended) | ({ saw: 'failure' } & Failed);

/** What has come of the two streams, however often they were asked for. */
type Output = {
  readonly stdout: Hash;
  readonly stderr: Hash;
  lastId: string | undefined;
  /** Something has come since this was last looked at. */
  fresh: boolean;
  paused: boolean;
};

function startOutput(): Output {
  return {
    stdout: createHash('sha256'),
    stderr: createHash('sha256'),
    lastId: undefined,
    fresh: false,
    paused: false,
  };
}

async function readStream(answer: IncomingMessage, reading: Reading, output: Output): Promise<StreamEnd> {
  const body = Readable.toWeb(answer) as ReadableStream<Uint8Array>;
  for await (const { event, data, id } of readServerSentEvents(body)) {
    const told = JSON.parse(data);
    output.lastId = id ?? output.lastId;
    output.fresh = true;
    if (event === 'output') output[told.stream as 'stdout' | 'stderr'].update(told.data);
    else if (event === 'result')
      return {
        saw: 'result',
        ...endOf(told),
        stdout: output.stdout.digest('hex'),
        stderr: output.stderr.digest('hex'),
      };
    else if (event === 'error')
      return {
        saw: 'failure',
        ...told,
        retryable: false,
        status: 200,
        detail: told.message,
        requestId: null,
      };
    else if (event === 'gap') throw new Gap();
    if (reading.as === 'slow' && !output.paused) {
      output.paused = true;
      await sleep(reading.pauseMs);
    }
  }
  throw new Error('the stream ended without a last event');
}
