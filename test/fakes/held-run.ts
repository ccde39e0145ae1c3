import { readServerSentEvents } from '../../client/server-sent-events.ts';
import type { ExecuteRequest } from '../../client/types.ts';
import { countRunning } from './process-tree.ts';
import { until } from './until.ts';

/** How a stream ended: its last event. */
export type LastEvent = { event: string; data: Record<string, unknown> };

/** A program that has begun and goes on until it is let go. */
export type HeldRun = AsyncDisposable & {
  readonly executionId: string;
  /** Processes that it started and that still are there, wherever they live. */
  alive(): number;
  /** The `result` or `error` of its stream; rejects where the stream ends without one. */
  readonly last: Promise<LastEvent>;
  /** The caller goes away. */
  leave(): Promise<void>;
};

export type HoldTarget = { url: string; key: string; headers?: Record<string, string> };

/** Runs a program that starts a child in a session of its own, says `begun`, and waits a minute. */
export async function holdRun(
  { url, key, headers = {} }: HoldTarget,
  request: Partial<ExecuteRequest> = {},
): Promise<HeldRun> {
  const marker = `3${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  const code = `
import subprocess, time
subprocess.Popen(["sleep", "${marker}"], start_new_session=True)
print("begun", flush=True)
time.sleep(60)
`;
  const leaving = new AbortController();
  const response = await fetch(`${url}/v1/execute/stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ code, timeout_ms: 60_000, ...request }),
    signal: leaving.signal,
  });
  if (!response.ok || !response.body)
    throw new Error(`not held: ${response.status} ${await response.text()}`);
  const begun = Promise.withResolvers<void>();
  const last = followToLast(response.body, begun.resolve);
  last.catch(begun.reject);
  await begun.promise;
  const alive = () => countRunning('sleep', marker);
  let over = false;
  const settle = () => {
    over = true;
  };
  last.then(settle, settle);
  // The kernel lets a parent go on a moment before its child shows what it executes.
  await until(() => over || alive() > 0);
  const leave = async () => {
    leaving.abort();
    await last.catch(() => {});
  };
  return {
    executionId: response.headers.get('podgate-execution-id') ?? '',
    alive,
    last,
    leave,
    [Symbol.asyncDispose]: leave,
  };
}

async function followToLast(body: ReadableStream<Uint8Array>, begun: () => void): Promise<LastEvent> {
  for await (const { event, data } of readServerSentEvents(body)) {
    if (event !== 'output') return { event, data: JSON.parse(data) };
    begun();
  }
  throw new Error('the stream ended without a last event');
}
