import { readServerSentEvents } from '../../client/server-sent-events.ts';
import type { ExecuteRequest } from '../../client/types.ts';
import type { Stack } from './stack.ts';

/** How one streamed execution ended. `event` is `result`, `error`, or `refused` where no stream was opened. */
export type StreamedEnd = {
  readonly event: 'result' | 'error' | 'refused';
  // biome-ignore lint/suspicious/noExplicitAny: an answer, as tests look into it
  readonly body: any;
  readonly stdout: string;
  readonly tookMs: number;
};

export type StreamedRun = {
  /** Resolves with its first output. */
  readonly begun: Promise<void>;
  readonly last: Promise<StreamedEnd>;
};

/** Runs code over server-sent events, and keeps what its caller is told. */
export function streamRun(stack: Pick<Stack, 'post'>, request: ExecuteRequest): StreamedRun {
  const begun = Promise.withResolvers<void>();
  const startedMs = performance.now();
  let stdout = '';
  const end = (event: StreamedEnd['event'], body: unknown): StreamedEnd => ({
    event,
    body,
    stdout,
    tookMs: performance.now() - startedMs,
  });
  const read = async (): Promise<StreamedEnd> => {
    const response = await stack.post('/v1/execute/stream', request);
    if (!response.ok || !response.body) return end('refused', await response.json());
    for await (const { event, data } of readServerSentEvents(response.body)) {
      const body = JSON.parse(data);
      if (event !== 'output') return end(event as 'result' | 'error', body);
      stdout += body.data;
      begun.resolve();
    }
    throw new Error('the stream ended without a last event');
  };
  const last = read();
  last.then(() => begun.reject(new Error('it ended without a word')), begun.reject);
  begun.promise.catch(() => {});
  return { begun: begun.promise, last };
}
