import { describe, expect, test } from 'vitest';
import { KEEP_ALIVE_MS } from '../../gateway/execution/event-stream.ts';
import { READER_STALL_MS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { createGatewayBench, type GatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import type { MockAgent } from '../fakes/mock-agent.ts';
import { RESULT } from '../fakes/mock-agent.ts';
import type { MockExecution } from '../fakes/mock-execution.ts';
import { until } from '../fakes/until.ts';

type Streamed = {
  bench: GatewayBench;
  agent: MockAgent;
  execution: MockExecution;
  response: Response;
  reader: ReadableStreamDefaultReader<Uint8Array>;
};

const decoder = new TextDecoder();

/** An execution that has started, and its open stream. */
async function open(request: object = {}, bench?: GatewayBench): Promise<Streamed> {
  const own = bench ?? (await createGatewayBench());
  const agent = await own.agent();
  const answer = own.ask('/v1/execute/stream', { body: { code: '', ...request } });
  const execution = (await agent.next()).begin();
  const response = await answer;
  if (!response.body) throw new Error(`no stream: ${response.status}`);
  return { bench: own, agent, execution, response, reader: response.body.getReader() };
}

async function readAll(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += decoder.decode(value);
  }
}

function eventsOf(text: string): { event: string; data: Record<string, unknown> }[] {
  return text
    .split('\n\n')
    .filter((frame) => frame.startsWith('event: '))
    .map((frame) => {
      const [event = '', data = ''] = frame.split('\n');
      return { event: event.slice('event: '.length), data: JSON.parse(data.slice('data: '.length)) };
    });
}

function textOf(text: string, stream: string): string {
  return eventsOf(text)
    .filter(({ event, data }) => event === 'output' && data.stream === stream)
    .map(({ data }) => data.data)
    .join('');
}

describe('a stream', () => {
  test('is, to the letter, what existing clients parse', async () => {
    const { execution, response, reader } = await open();
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
      'podgate-execution-id': execution.id,
    });
    execution.out('line\n\r\u2028"').err('é');
    await until(() => execution.agent.peer.outbox.queuedBytes(execution.stream) === 0);
    execution.exit();
    const { duration_ms, peak_memory_bytes, cpu_ms } = RESULT;
    const rest = {
      execution_id: execution.id,
      cluster: 'lab',
      outcome: 'exited',
      signal: null,
      stdout_bytes: 10,
      stderr_bytes: 2,
      stdout_truncated: false,
      stderr_truncated: false,
      queue_ms: 0,
      cpu_ms,
      peak_memory_bytes,
      files_omitted: [],
      files_omitted_count: 0,
    };
    expect(await readAll(reader)).toBe(
      'event: output\ndata: {"stream":"stdout","data":"line\\n\\r\u2028\\""}\n\n' +
        'event: output\ndata: {"stream":"stderr","data":"é"}\n\n' +
        `event: result\ndata: ${JSON.stringify({ exit_code: 0, timed_out: false, duration_ms, files: [], ...rest })}\n\n`,
    );
  });

  test('opens when code starts, before there is any output', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    let opened = false;
    const answer = bench.ask('/v1/execute/stream', { body: { code: '' } }).then((response) => {
      opened = true;
      return response;
    });
    const execution = (await agent.next()).accept();
    await bench.clock.settle();
    expect(opened).toBe(false);
    agent.send('STARTED', {}, execution.stream);
    expect((await answer).status).toBe(200);
  });

  test.for([
    ['policy_denied', 403],
    ['image_error', 503],
    ['rate_limited', 429],
  ] as const)('that the agent refuses with %s is plain HTTP %i', async ([code, status]) => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    const answer = bench.ask('/v1/execute/stream', { body: { code: '' } });
    (await agent.next()).accept().nack(code, 'Not here.');
    expect(await problemOf(await answer)).toMatchObject({ status, code, detail: 'Not here.' });
    expect(bench.gateway.status()).toMatchObject({ running: 0, outputBytes: 0 });
  });

  test('whose input cannot be staged is plain HTTP too, as nothing ran', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    const answer = bench.ask('/v1/execute/stream', { body: { code: '' } });
    (await agent.next()).accept().fail('stage_failed', 'no', 'There is no room.');
    expect(await problemOf(await answer)).toMatchObject({ status: 422, code: 'stage_failed' });
  });

  test('that breaks after it opened ends with one error event', async () => {
    const { execution, reader } = await open();
    execution.out('a').fail('sandbox_lost', 'yes', 'The sandbox was lost.');
    expect(eventsOf(await readAll(reader))).toEqual([
      { event: 'output', data: { stream: 'stdout', data: 'a' } },
      { event: 'error', data: { message: 'The sandbox was lost.', code: 'sandbox_lost', started: 'yes' } },
    ]);
  });

  test('joins characters that frames cut in two, on each stream by itself', async () => {
    const { execution, reader } = await open();
    const smile = [...Buffer.from('😀é')];
    for (const byte of smile) execution.out(new Uint8Array([byte])).err(new Uint8Array([byte]));
    execution.out(new Uint8Array([0xf0, 0x9f])).exit();
    const text = await readAll(reader);
    expect(textOf(text, 'stdout')).toBe('😀é\ufffd');
    expect(textOf(text, 'stderr')).toBe('😀é');
  });

  test('is cut at the cap of all that comes, however small its pieces are', async () => {
    const bench = await createGatewayBench({ config: { maxOutputBytes: 100 } });
    const { execution, reader } = await open({}, bench);
    for (const _ of [1, 2, 3]) {
      execution.out('x'.repeat(60));
      await bench.clock.settle();
    }
    execution.exit();
    expect(textOf(await readAll(reader), 'stdout')).toBe('x'.repeat(100));
  });

  test('that is truncated has no marker and no half character', async () => {
    const bench = await createGatewayBench({ config: { maxOutputBytes: 5 } });
    const { execution, reader } = await open({}, bench);
    execution.out(Buffer.from('xx😀').subarray(0, 5)).exit({ stdout_bytes: 900, stdout_truncated: true });
    const text = await readAll(reader);
    expect(textOf(text, 'stdout')).toBe('xx');
    expect(eventsOf(text).at(-1)?.data).toMatchObject({ stdout_truncated: true, stdout_bytes: 900 });
  });

  test('that is silent is kept alive by comments', async () => {
    const { bench, execution, reader } = await open({ timeout_ms: 60_000 });
    const first = reader.read();
    await bench.clock.advance(KEEP_ALIVE_MS);
    expect(decoder.decode((await first).value)).toBe(': keep-alive\n\n');
    execution.out('late').exit();
    expect(textOf(await readAll(reader), 'stdout')).toBe('late');
  });
});

describe('a slow reader', () => {
  test('holds its own program back at one window, and takes everything in the end', async () => {
    const { bench, execution, reader } = await open({ timeout_ms: 60_000 });
    const size = 3 * STREAM_WINDOW_BYTES;
    execution.out('x'.repeat(size));
    await bench.clock.settle();
    const { outbox } = execution.agent.peer;
    expect(size - outbox.queuedBytes(execution.stream)).toBe(STREAM_WINDOW_BYTES);
    execution.exit();
    expect(textOf(await readAll(reader), 'stdout')).toHaveLength(size);
  });

  test('slows nobody else', async () => {
    const { bench, agent, execution } = await open({ timeout_ms: 60_000 });
    execution.out('x'.repeat(3 * STREAM_WINDOW_BYTES));
    for (let count = 0; count < 50; count += 1) {
      const answer = bench.ask('/v1/execute', { body: { code: '' } });
      (await agent.next()).succeed('y'.repeat(300_000));
      expect((await answer).status).toBe(200);
    }
  });

  test('that takes nothing for too long loses its execution, and is told so', async () => {
    const { bench, execution, reader } = await open({ timeout_ms: 60_000 });
    execution.out('x');
    await bench.clock.settle();
    await bench.clock.advance(READER_STALL_MS - 1);
    expect(execution.cancelled).toBeUndefined();
    await bench.clock.advance(1);
    expect(execution.cancelled).toBe('reader_stalled');
    expect(eventsOf(await readAll(reader)).at(-1)).toMatchObject({
      event: 'error',
      data: { code: 'reader_stalled', started: 'yes' },
    });
  });

  test('that takes something and then nothing more loses its execution as well', async () => {
    const { bench, execution, reader } = await open({ timeout_ms: 60_000 });
    execution.out('x'.repeat(STREAM_WINDOW_BYTES));
    await bench.clock.settle();
    await reader.read();
    await bench.clock.advance(READER_STALL_MS - 1);
    expect(execution.cancelled).toBeUndefined();
    await bench.clock.advance(1);
    expect(execution.cancelled).toBe('reader_stalled');
  });

  test('that has the last word still to take is let go in time', async () => {
    const { bench, execution, reader } = await open({ timeout_ms: 60_000 });
    execution.out('x').exit();
    await until(() => bench.records.length === 1);
    await reader.read();
    expect(bench.gateway.status().outputBytes).toBe(STREAM_WINDOW_BYTES);
    await bench.clock.advance(READER_STALL_MS);
    expect(bench.gateway.status().outputBytes).toBe(0);
  });

  test('that does not even take that news is cut off', async () => {
    const { bench, execution, reader } = await open({ timeout_ms: 60_000 });
    execution.out('x');
    await bench.clock.settle();
    await bench.clock.advance(2 * READER_STALL_MS);
    await expect(reader.read()).rejects.toThrow('took nothing');
    expect(bench.gateway.status()).toMatchObject({ running: 0, outputBytes: 0 });
  });

  test('that takes a little now and then is not stalled, and the deadline waits for it', async () => {
    const { bench, execution, reader } = await open({ timeout_ms: 1_000, queue_timeout_ms: 0 });
    for (let turn = 0; turn < 5; turn += 1) {
      execution.out('x'.repeat(40_000));
      await bench.clock.advance(READER_STALL_MS / 2);
      expect((await reader.read()).done).toBe(false);
    }
    expect(execution.cancelled).toBeUndefined();
    execution.exit();
    expect(eventsOf(await readAll(reader)).at(-1)?.event).toBe('result');
  });
});

describe('a caller that goes away', () => {
  test('cancels its stream', async () => {
    const { bench, execution, reader } = await open();
    await reader.cancel();
    await until(() => execution.cancelled !== undefined);
    expect(execution.cancelled).toBe('cancelled');
    expect(bench.gateway.status()).toMatchObject({ running: 0, outputBytes: 0 });
    // What was on its way is taken, so that EXIT comes through and the link stays good.
    execution.out('x'.repeat(600_000)).exit({ outcome: 'cancelled', exit_code: null });
    await until(() => execution.agent.peer.outbox.empty);
    expect(execution.agent.closed).toBeUndefined();
    await expect.poll(() => bench.records.length).toBe(1);
    expect(bench.records[0]).toMatchObject({ outcome: null, code: 'cancelled', started: 'yes' });
  });

  test('cancels a plain request, before and after it started', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    for (const begun of [true, false]) {
      const leave = new AbortController();
      const answer = bench.ask('/v1/execute', { body: { code: '' }, signal: leave.signal });
      const execution = await agent.next();
      if (begun) execution.begin();
      leave.abort();
      await answer;
      await until(() => execution.cancelled !== undefined);
      execution.fail('cancelled', begun ? 'yes' : 'no');
    }
    await bench.clock.settle();
    expect(agent.closed).toBeUndefined();
    expect(bench.gateway.status().running).toBe(0);
  });

  test('leaves nothing that waits, once its agent has had the last word', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    await bench.clock.settle();
    const timers = bench.clock.pending;
    for (const path of ['/v1/execute', '/v1/execute/stream']) {
      const leaving = new AbortController();
      const answer = bench.ask(path, { body: { code: '' }, signal: leaving.signal });
      const execution = (await agent.next()).begin();
      await bench.clock.settle();
      leaving.abort();
      await until(() => execution.cancelled === 'cancelled');
      execution.exit({ outcome: 'cancelled', exit_code: null });
      await answer;
      await bench.clock.settle();
    }
    expect(bench.clock.pending).toBe(timers);
    expect(bench.gateway.status()).toMatchObject({ running: 0, requestBytes: 0, outputBytes: 0 });
  });

  test('leaves the queue, and its slot goes to the next', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 0 });
    const leave = new AbortController();
    const gone = bench.ask('/v1/execute', { body: { code: 'gone' }, signal: leave.signal });
    await until(() => bench.gateway.status().queued === 1);
    const next = bench.ask('/v1/execute', { body: { code: 'next' } });
    await until(() => bench.gateway.status().queued === 2);
    leave.abort();
    await gone;
    expect(bench.gateway.status().queued).toBe(1);
    agent.grant(1);
    const execution = await agent.next();
    expect((await execution.input()).code).toBe('next');
    execution.succeed();
    expect((await next).status).toBe(200);
  });
});
