import { describe, expect, test } from 'vitest';
import { EVENT_STALL_MS } from '../../gateway/execution/event-stream.ts';
import { WHOLE_ANSWER_CHARS } from '../../gateway/execution/json-answer.ts';
import { DOWNLOAD_STALL_MS } from '../../gateway/files/download.ts';
import { executeResponse } from '../../shared/api.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { createGatewayBench, type GatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import type { MockAgent } from '../fakes/mock-agent.ts';
import { until } from '../fakes/until.ts';

const LONG = 100_000;
const AB_AND_A_FACE = `ab${'\u{1f600}'.repeat(WHOLE_ANSWER_CHARS)}`;

type Asked = { bench: GatewayBench; agent: MockAgent; response: Response };

/** The answer to an execution that printed this, and of which nothing but the head was read. */
async function answered(stdout: string, path = '/v1/execute', request: object = {}): Promise<Asked> {
  const bench = await createGatewayBench({ config: { outputMemoryBytes: 4 * 4 * STREAM_WINDOW_BYTES } });
  const agent = await bench.agent();
  const answer = bench.ask(path, { body: { code: '', ...request } });
  const execution = (await agent.next()).begin();
  execution.out(stdout);
  if (request !== undefined && 'rich' in request) {
    const results = [{ kind: 'result', data: { 'text/plain': 'x'.repeat(LONG) } }];
    execution.file('results', JSON.stringify({ results, omitted: [], error: null }));
  }
  execution.exit();
  const response = await answer;
  await until(() => bench.records.length === 1);
  return { bench, agent, response };
}

const outputBytes = ({ bench }: Asked) => bench.gateway.status().outputBytes;

describe('a long JSON answer', () => {
  test('holds its memory until it is read, and no slot', async () => {
    const asked = await answered('\0'.repeat(LONG));
    expect(outputBytes(asked)).toBe(STREAM_WINDOW_BYTES + LONG);
    expect(asked.bench.gateway.status().running).toBe(0);
    const { stdout } = executeResponse.parse(await asked.response.json());
    expect(stdout).toBe('\0'.repeat(LONG));
    expect(outputBytes(asked)).toBe(0);
  });

  test('is refused to a key whose others nobody reads', async () => {
    const asked = await answered('x'.repeat(3 * STREAM_WINDOW_BYTES));
    expect(await problemOf(await asked.bench.ask('/v1/execute', { body: { code: '' } }))).toMatchObject({
      status: 429,
      code: 'rate_limited',
    });
    await asked.response.body?.cancel();
    const later = asked.bench.ask('/v1/execute', { body: { code: '' } });
    (await asked.agent.next()).succeed();
    expect((await later).status).toBe(200);
  });

  test('of results holds it as well', async () => {
    const asked = await answered('', '/v1/execute', { rich: true });
    expect(outputBytes(asked)).toBeGreaterThan(STREAM_WINDOW_BYTES + LONG);
    const { results } = executeResponse.parse(await asked.response.json());
    expect(results?.[0]?.data).toEqual({ 'text/plain': 'x'.repeat(LONG) });
    expect(outputBytes(asked)).toBe(0);
  });

  test('gives it back when its reader goes away or takes nothing', async () => {
    const left = await answered('x'.repeat(LONG));
    await left.response.body?.cancel();
    expect(outputBytes(left)).toBe(0);
    const stalled = await answered('x'.repeat(LONG));
    await stalled.bench.clock.advance(DOWNLOAD_STALL_MS - 1);
    expect(outputBytes(stalled)).toBeGreaterThan(LONG);
    await stalled.bench.clock.advance(1);
    expect(outputBytes(stalled)).toBe(0);
    await expect(stalled.response.text()).rejects.toThrow('took nothing');
  });

  test.for([
    AB_AND_A_FACE,
    AB_AND_A_FACE.slice(1),
    '\\"\n\u2028'.repeat(LONG),
    'x'.repeat(2 * WHOLE_ANSWER_CHARS),
  ])('is, in pieces, the same text, %#', async (text) => {
    const { response } = await answered(text);
    const body = await response.text();
    expect(body).toBe(JSON.stringify(JSON.parse(body)));
    expect(JSON.parse(body).stdout).toBe(text);
  });
});

test('a short JSON answer holds nothing', async () => {
  const asked = await answered('x'.repeat(WHOLE_ANSWER_CHARS / 2));
  expect(outputBytes(asked)).toBe(0);
  expect(executeResponse.parse(await asked.response.json()).stdout).toHaveLength(WHOLE_ANSWER_CHARS / 2);
});

describe('a stream whose last event is long', () => {
  test('holds its memory until that is read', async () => {
    const asked = await answered('', '/v1/execute/stream', { rich: true });
    const reader = (asked.response.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    expect(outputBytes(asked)).toBeGreaterThan(STREAM_WINDOW_BYTES + LONG);
    while (!(await reader.read()).done);
    expect(outputBytes(asked)).toBe(0);
  });

  test('gives it back when nothing more of it is taken', async () => {
    const asked = await answered('', '/v1/execute/stream', { rich: true });
    const reader = (asked.response.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    await asked.bench.clock.advance(EVENT_STALL_MS - 1);
    expect(outputBytes(asked)).toBeGreaterThan(LONG);
    await asked.bench.clock.advance(1);
    expect(outputBytes(asked)).toBe(0);
    await expect(reader.read()).rejects.toThrow('took nothing');
  });
});
