import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import { json } from 'node:stream/consumers';
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
};

/** What the caller saw of one execution. Output as digests. */
export type Seen = { readonly executionId: string | null; readonly tookMs: number } & (
  | ({ readonly saw: 'result' } & Ended)
  | ({ readonly saw: 'failure' } & Failed)
  /** The connection broke, or ended before the answer did. */
  | { readonly saw: 'break'; readonly cause: string }
  /** The caller went away itself. */
  | { readonly saw: 'nothing' }
  /** Not an answer of Podgate's. */
  | { readonly saw: 'nonsense'; readonly cause: string }
  | { readonly saw: 'silence' }
);

export type Asking = AsyncDisposable & {
  /** Sends it once and sees what comes of it. `patienceMs` bounds the wait for the end of the answer. */
  ask(sent: ExecuteRequest, reading: Reading, patienceMs: number): Promise<Seen>;
};

class Left extends Error {}
class Silence extends Error {}

/** A caller that keeps its connection from one request to the next, as clients do. */
export function createAsking(url: string, key: string): Asking {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });

  async function ask(sent: ExecuteRequest, reading: Reading, patienceMs: number): Promise<Seen> {
    const beganMs = performance.now();
    let executionId: string | null = null;
    const took = () => ({ executionId, tookMs: performance.now() - beganMs });
    const ending = new AbortController();
    const patience = setTimeout(() => ending.abort(new Silence()), patienceMs);
    const leave =
      reading.as === 'leaver' ? setTimeout(() => ending.abort(new Left()), reading.afterMs) : undefined;
    try {
      const streamed = reading.as === 'stream' || reading.as === 'slow';
      const answer = await send(streamed ? '/v1/execute/stream' : '/v1/execute', sent, ending.signal);
      executionId = String(answer.headers['podgate-execution-id'] ?? '') || null;
      if (answer.statusCode !== 200) return { ...took(), ...(await readProblem(answer)) };
      const end = streamed ? await readStream(answer, reading) : readResult(await json(answer));
      return { ...took(), ...end };
    } catch (error) {
      const { reason } = ending.signal;
      if (reason instanceof Left) return { ...took(), saw: 'nothing' };
      if (reason instanceof Silence) return { ...took(), saw: 'silence' };
      if (error instanceof SyntaxError || error instanceof TypeError)
        return { ...took(), saw: 'nonsense', cause: String(error) };
      return { ...took(), saw: 'break', cause: String((error as NodeJS.ErrnoException).code ?? error) };
    } finally {
      clearTimeout(patience);
      clearTimeout(leave);
      ending.abort();
    }
  }

  async function send(path: string, sent: ExecuteRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const body = JSON.stringify(sent);
    const outgoing = request(url + path, {
      method: 'POST',
      agent,
      signal,
      headers: {
        authorization: `Bearer ${key}`,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
      },
    });
    outgoing.end(body);
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

type ResultBody = { exit_code: number | null; outcome: string; timed_out: boolean };

function endOf({ exit_code, outcome, timed_out }: ResultBody): Omit<Ended, 'stdout' | 'stderr'> {
  return { exitCode: exit_code, outcome, timedOut: timed_out };
}

function readResult(value: unknown): { saw: 'result' } & Ended {
  const body = value as ResultBody & { stdout: string; stderr: string };
  return { saw: 'result', ...endOf(body), stdout: sha256(body.stdout), stderr: sha256(body.stderr) };
}

async function readProblem(answer: IncomingMessage): Promise<{ saw: 'failure' } & Failed> {
  const body = (await json(answer)) as Partial<Failed> & { request_id?: string };
  const status = answer.statusCode ?? 0;
  const { code = 'none', started = 'no', retryable = false, detail = '' } = body;
  return { saw: 'failure', code, started, retryable, status, detail, requestId: body.request_id ?? null };
}

async function readStream(
  answer: IncomingMessage,
  reading: Reading,
): Promise<({ saw: 'result' } & Ended) | ({ saw: 'failure' } & Failed)> {
  const digests = { stdout: createHash('sha256'), stderr: createHash('sha256') };
  let paused = false;
  const body = Readable.toWeb(answer) as ReadableStream<Uint8Array>;
  for await (const { event, data } of readServerSentEvents(body)) {
    const told = JSON.parse(data);
    if (event === 'output') digests[told.stream as 'stdout' | 'stderr'].update(told.data);
    else if (event === 'result')
      return {
        saw: 'result',
        ...endOf(told),
        stdout: digests.stdout.digest('hex'),
        stderr: digests.stderr.digest('hex'),
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
    if (reading.as === 'slow' && !paused) {
      paused = true;
      await sleep(reading.pauseMs);
    }
  }
  throw new Error('the stream ended without a last event');
}
