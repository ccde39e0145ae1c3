import { expect, test } from 'vitest';
import { readServerSentEvents } from '../../client/server-sent-events.ts';
import { READER_STALL_MS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { createGatewayBench, type GatewayBench } from '../fakes/gateway-bench.ts';
import type { MockAgent } from '../fakes/mock-agent.ts';
import type { MockExecution } from '../fakes/mock-execution.ts';
import { until } from '../fakes/until.ts';

const STALLED = 40;
/** Several times a stream's window, and all together more than the link's. */
const PRINTED_BYTES = 1_048_576;
const PRINTED = new Uint8Array(PRINTED_BYTES).fill(120);

type Streamed = { answer: Response; execution: MockExecution };

/** A streamed execution that prints at once as much as it may; nobody has read of it yet. */
async function stream(bench: GatewayBench, agent: MockAgent): Promise<Streamed> {
  const asked = bench.ask('/v1/execute/stream', { body: { code: 'x', timeout_ms: 60_000 } });
  const execution = await agent.next();
  execution.begin().out(PRINTED);
  return { answer: await asked, execution };
}

async function readAll({ answer }: Streamed): Promise<{ bytes: number; last: string }> {
  let [bytes, last] = [0, ''];
  for await (const { event, data } of readServerSentEvents(answer.body as ReadableStream<Uint8Array>)) {
    if (event === 'output') bytes += JSON.parse(data).data.length;
    last = event;
  }
  return { bytes, last };
}

test('forty readers that stall on one link hold up nobody else, cost a window each, and lose only themselves', async () => {
  const bench = await createGatewayBench({ config: { maxOutputBytes: 4 * PRINTED_BYTES } });
  const agent = await bench.agent({ slots: STALLED + 8 });
  const stalled: Streamed[] = [];
  while (stalled.length < STALLED) stalled.push(await stream(bench, agent));
  await until(() => bench.gateway.status().outputBytes >= STALLED * STREAM_WINDOW_BYTES);
  expect(bench.gateway.status().outputBytes).toBe(STALLED * STREAM_WINDOW_BYTES);

  const reader = await stream(bench, agent);
  reader.execution.exit();
  expect(await readAll(reader)).toEqual({ bytes: PRINTED_BYTES, last: 'result' });
  const answer = bench.ask('/v1/execute', { body: { code: 'x' } });
  (await agent.next()).succeed('through');
  expect(await (await answer).json()).toMatchObject({ stdout: 'through' });

  const late = await stream(bench, agent);
  await bench.clock.advance(READER_STALL_MS - 1);
  expect(stalled.filter(({ execution }) => execution.cancelled !== undefined)).toEqual([]);
  const whole = readAll(late);
  late.execution.exit();
  expect(await whole).toEqual({ bytes: PRINTED_BYTES, last: 'result' });
  await bench.clock.advance(1);
  await until(() => stalled.every(({ execution }) => execution.cancelled === 'reader_stalled'));
  expect(late.execution.cancelled).toBeUndefined();
  expect(agent.closed).toBeUndefined();
  // Nor do they take the news.
  await bench.clock.advance(READER_STALL_MS);
  expect(bench.gateway.status()).toMatchObject({ links: 1, running: 0, outputBytes: 0 });
});
