import { describe, expect, test } from 'vitest';
import { type ClaimAnswer, MAX_CLAIMS_PER_HOLDER } from '../../agent/executions/key-claims.ts';
import { COMEBACK_MS } from '../../gateway/clusters/instance.ts';
import { createGateway } from '../../gateway/create-gateway.ts';
import { CLAIM_POLL_MS } from '../../gateway/execution/key-claim.ts';
import { OPEN_TIMEOUT_MS, STATUS_TIMEOUT_MS } from '../../gateway/execution/sister-link.ts';
import { READER_STALL_MS, RECORD_TTL_MS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { FromGateway } from '../../shared/messages.ts';
import { digestPrincipal } from '../../shared/principal.ts';
import { createGatewayBench, type GatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import { announceCluster, MockAgent } from '../fakes/mock-agent.ts';
import type { MockExecution } from '../fakes/mock-execution.ts';
import { until } from '../fakes/until.ts';

const DETACHED = { code: '', detach: true, timeout_ms: 60_000 };

type Event = { id: string | undefined; event: string; data: Record<string, unknown> };

function eventsOf(text: string): Event[] {
  return text
    .split('\n\n')
    .filter((frame) => frame !== '' && !frame.startsWith(':'))
    .map((frame) => {
      const fields = new Map(frame.split('\n').map((line) => line.split(/: (.*)/s) as [string, string]));
      return {
        id: fields.get('id'),
        event: fields.get('event') as string,
        data: JSON.parse(fields.get('data') as string),
      };
    });
}

async function begun(
  request: object = DETACHED,
  headers: Record<string, string> = {},
): Promise<{ bench: GatewayBench; agent: MockAgent; execution: MockExecution; response: Response }> {
  const bench = await createGatewayBench();
  const agent = await bench.agent({ refill: false });
  await bench.clock.settle();
  const answer = bench.ask('/v1/execute/stream', { body: request, headers });
  const execution = (await agent.next()).begin();
  return { bench, agent, execution, response: await answer };
}

/** An answer of events, and the stream that it opened at the agent. */
async function follow(
  { bench, agent, execution }: { bench: GatewayBench; agent: MockAgent; execution: MockExecution },
  headers: Record<string, string> = {},
) {
  const answer = bench.ask(`/v1/executions/${execution.id}/events`, { headers });
  const stream = await agent.attached(execution);
  Object.assign(stream.sent, { stdout: 0, stderr: 0 });
  return { stream, answer };
}

test.for([
  ['no template, as a gateway of an earlier version made it, to every key of its principal', {}, 200],
  ['a template that its key may not use to nobody', { template: 'large' }, 404],
] as const)('an id answers that names %s', async ([, named, status]) => {
  const bench = await createGatewayBench();
  const agent = await bench.agent();
  await bench.clock.settle();
  const principalDigest = await digestPrincipal('acme/alice');
  const at = { kind: 'x', tenant: 'acme', cluster: 'lab', instance: agent.instance } as const;
  const id = await bench.deps.ids.seal({ ...at, principalDigest, ...named });
  const times = { accepted_at_ms_ago: 2, started_at_ms_ago: 1, ended_at_ms_ago: null };
  agent.records.set(id, { state: 'started', record: { ...times, exit: null } });
  const key = await bench.key({ templates: ['default'] });
  expect((await bench.ask(`/v1/executions/${id}`, { key })).status).toBe(status);
});

describe('/v1/executions/{id}/events', () => {
  test('gives what was said and is still to come, each event with an id to go on behind', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    expect(stream.from).toMatchObject({ offsets: { '1': 0, '2': 0, '3': 0 }, files: 0, pending: 0 });
    expect(stream.from.reader).toMatch(/^[\w-]{16}$/);
    stream.resume().out('one');
    const response = await answer;
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'text/event-stream',
      'podgate-execution-id': made.execution.id,
    });
    await made.bench.clock.settle();
    stream.err('é');
    await made.bench.clock.settle();
    stream.exit();
    const events = eventsOf(await response.text());
    expect(events.map(({ id, event, data }) => [id, event, data.data ?? data.exit_code])).toEqual([
      ['3.0', 'output', 'one'],
      ['3.2', 'output', 'é'],
      ['3.2', 'result', 0],
    ]);
    expect(events[2]?.data).toMatchObject({
      execution_id: made.execution.id,
      cluster: 'lab',
      stdout_bytes: 3,
    });
  });

  test('begins behind Last-Event-ID', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made, { 'last-event-id': '3.2' });
    expect(stream.from.offsets).toEqual({ '1': 3, '2': 2, '3': 0 });
    stream.resume().out('!').exit({ stdout_bytes: 4, stderr_bytes: 2 });
    expect(eventsOf(await (await answer).text()).map(({ id, event }) => [id, event])).toEqual([
      ['4.2', 'output'],
      ['4.2', 'result'],
    ]);
  });

  test('never has an id inside of a character', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    const bytes = new TextEncoder().encode('a😀b');
    stream.resume();
    const reading = (await answer).text();
    for (const piece of [
      bytes.subarray(0, 2),
      bytes.subarray(2, 3),
      bytes.subarray(3, 5),
      bytes.subarray(5),
    ]) {
      stream.out(piece);
      await made.bench.clock.settle();
    }
    stream.exit();
    const events = eventsOf(await reading);
    expect(events.map(({ id, data }) => [id, data.data])).toEqual([
      ['1.0', 'a'],
      ['5.0', '😀'],
      ['6.0', 'b'],
      ['6.0', undefined],
    ]);
  });

  test('says which bytes are gone, and goes on behind them', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    stream.resume().gap(1, 0, 1_000).out('rest').exit({ stdout_bytes: 1_004 });
    const events = eventsOf(await (await answer).text());
    expect(events.slice(0, 2)).toEqual([
      { id: '1000.0', event: 'gap', data: { stream: 'stdout', from: 0, to: 1_000 } },
      { id: '1004.0', event: 'output', data: { stream: 'stdout', data: 'rest' } },
    ]);
    expect(events[2]?.event).toBe('result');
  });

  test('goes on over another link, its own place kept', async () => {
    const made = await begun();
    const sister = await made.bench.agent({ identity: made.agent.options.identity, refill: false });
    const { stream, answer } = await follow(made);
    stream.resume().gap(2, 0, 7).gap(3, 0, 9).out('one ');
    const text = (await answer).text();
    await made.bench.clock.settle();
    made.agent.cut();
    await until(() => sister.attaches.some(({ body }) => body.reader === stream.from.reader));
    const at = sister.attaches.findIndex(({ body }) => body.reader === stream.from.reader);
    sister.attaches.push(...sister.attaches.splice(0, at));
    const again = await sister.attached(made.execution);
    const { reader } = stream.from;
    expect(again.from).toMatchObject({ reader, offsets: { '1': 4, '2': 7, '3': 9 }, pending: 0 });
    Object.assign(again.sent, { stdout: 4, stderr: 7 });
    again.resume().out('two').exit();
    const said = eventsOf(await text).map(({ data }) => data.data ?? '');
    expect(said.join('')).toBe('one two');
  });

  test('go on for as long as the execution does, once its agent has answered', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    stream.resume();
    const text = (await answer).text();
    await made.bench.clock.advance(2 * OPEN_TIMEOUT_MS);
    stream.out('late').exit();
    expect(eventsOf(await text).map(({ event }) => event)).toEqual(['output', 'result']);
  });

  test('are cut where its agent says that its first reader’s were', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    made.agent.send('ACCEPT', { attached: { max_output_bytes: 3, queue_ms: 0 } }, stream.stream);
    made.agent.send('STARTED', {}, stream.stream);
    stream.out('four').exit();
    expect(
      eventsOf(await (await answer).text()).map(({ data }) => data.data ?? data.stdout_truncated),
    ).toEqual(['fou', true]);
  });

  test('have no more memory than the key, and leave nothing behind', async () => {
    const made = await begun();
    made.execution.exit();
    await made.response.text();
    const { bench } = made;
    await bench.clock.settle();
    const before = bench.clock.pending;
    const { stream, answer } = await follow(made);
    stream.resume().exit();
    await (await answer).text();
    expect(bench.clock.pending).toBe(before);
    const tight = await createGatewayBench({ config: { outputMemoryBytes: 4 * STREAM_WINDOW_BYTES } });
    const agent = await tight.agent();
    await tight.clock.settle();
    const running = tight.ask('/v1/execute/stream', { body: DETACHED });
    const execution = (await agent.next()).begin();
    await running;
    const refused = await problemOf(await tight.ask(`/v1/executions/${execution.id}/events`));
    expect(refused).toMatchObject({ status: 429, code: 'rate_limited' });
  });

  test('tells of a failure as the first stream does', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    stream.resume().fail('sandbox_lost', 'yes', 'It is gone.');
    expect(eventsOf(await (await answer).text())).toEqual([
      {
        id: undefined,
        event: 'error',
        data: { message: 'It is gone.', code: 'sandbox_lost', started: 'yes' },
      },
    ]);
  });

  test('names the files that the first answer named, stored once', async () => {
    const made = await begun();
    const text = made.response.text();
    made.execution.file('a.txt', 'alpha').exit();
    const first = eventsOf(await text).at(-1)?.data.files;
    const { stream, answer } = await follow(made);
    stream.resume().file('a.txt', 'alpha').exit();
    expect(eventsOf(await (await answer).text()).at(-1)?.data.files).toEqual(first);
    const { files } = (await (await made.bench.ask('/v1/files')).json()) as { files: object[] };
    expect(files).toHaveLength(1);
  });

  test('stores the files where this gateway did not, and omits those that are gone', async () => {
    const made = await begun();
    // As in another replica, no run of it stores its files here.
    made.execution.fail('sandbox_lost', 'yes');
    await made.response.text();
    const { stream, answer } = await follow(made);
    stream.resume().gap(3, 0, 7);
    stream.agent.peer.behind('END', stream.stream, 3, { path: 'gone', size: 5, sha256: '0'.repeat(64) });
    stream.agent.peer.data(stream.stream, 3, new TextEncoder().encode('rest'));
    stream.agent.peer.behind('END', stream.stream, 3, { path: 'half', size: 6, sha256: '0'.repeat(64) });
    stream.file('whole', 'whole').exit();
    const last = eventsOf(await (await answer).text()).at(-1)?.data as {
      files: { path: string }[];
      files_omitted: object[];
    };
    expect(last.files.map(({ path }) => path)).toEqual(['whole']);
    expect(last.files_omitted).toEqual([
      { path: 'gone', reason: 'not_kept' },
      { path: 'half', reason: 'not_kept' },
    ]);
  });

  test('that an agent does not even refuse are given up, and keep no memory', async () => {
    const made = await begun();
    made.execution.exit();
    await made.response.text();
    const { bench, agent } = made;
    const { answer, stream } = await follow(made);
    expect(bench.gateway.status().outputBytes).toBe(STREAM_WINDOW_BYTES);
    await bench.clock.advance(OPEN_TIMEOUT_MS);
    expect(await problemOf(await answer)).toMatchObject({ status: 502, code: 'deadline_exceeded' });
    expect(bench.gateway.status().outputBytes).toBe(0);
    await agent.seen('DETACH');
    stream.resume().exit();
    await bench.clock.settle();
    expect(agent.closed).toBeUndefined();
  });

  test('whose agent answers once, and not again over its next link, are given up', async () => {
    const made = await begun();
    const { bench, agent } = made;
    const { answer, stream } = await follow(made);
    stream.resume().out('one');
    const response = await answer;
    const text = response.text();
    await bench.clock.settle();
    const sister = await bench.agent({ identity: agent.options.identity, refill: false });
    agent.cut();
    await sister.attached(made.execution);
    await sister.attached(made.execution);
    await bench.clock.advance(OPEN_TIMEOUT_MS - 1);
    const kept = bench.gateway.status().outputBytes;
    await bench.clock.advance(1);
    expect(eventsOf(await text).at(-1)).toMatchObject({
      event: 'error',
      data: { code: 'deadline_exceeded' },
    });
    expect(bench.gateway.status().outputBytes).toBeLessThan(kept);
  });

  test('that nobody reads any more ends the reading and not the execution', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    stream.resume().out('x');
    const response = await answer;
    await response.body?.cancel();
    await made.agent.seen('DETACH');
    expect([stream.cancelled, made.execution.cancelled]).toEqual([undefined, undefined]);
  });

  test('asked for with HEAD is there, and holds no reader', async () => {
    const made = await begun();
    const { outputBytes } = made.bench.gateway.status();
    const answer = made.bench.ask(`/v1/executions/${made.execution.id}/events`, { method: 'HEAD' });
    const stream = await made.agent.attached(made.execution);
    stream.resume().out('x');
    expect((await answer).headers.get('content-type')).toBe('text/event-stream');
    await made.bench.clock.settle();
    expect(made.agent.received.map(({ name }) => name)).toContain('DETACH');
    expect(made.bench.gateway.status().outputBytes).toBe(outputBytes);
    expect(made.execution.cancelled).toBeUndefined();
  });

  test('whose reader takes nothing loses that reader and nobody else', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    stream.resume().out('x'.repeat(1_000)).out('y');
    const response = await answer;
    await made.bench.clock.settle();
    await made.bench.clock.advance(READER_STALL_MS);
    await made.agent.seen('DETACH');
    expect(made.execution.cancelled).toBeUndefined();
    expect(await response.text()).toContain('reader_stalled');
  });

  test.for([
    ['not_found', 404, 'not_found'],
    ['invalid_request', 422, 'invalid_request'],
    ['rate_limited', 429, 'rate_limited'],
    ['internal', 502, 'agent_lost'],
  ] as const)('that the agent refuses with %s answer %i', async ([code, status, shown]) => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    stream.nack(code);
    expect(await problemOf(await answer)).toMatchObject({ status, code: shown });
  });

  test.for(['', '1', '1.x', '-1.0', '1.2.3', '1'.repeat(16)])(
    'with Last-Event-ID "%s" are refused, or begin at the start where it is empty',
    async (id) => {
      const made = await begun();
      if (id === '') {
        const { stream, answer } = await follow(made, { 'last-event-id': id });
        stream.resume().exit();
        expect((await answer).status).toBe(200);
        return;
      }
      const path = `/v1/executions/${made.execution.id}/events`;
      const answer = await made.bench.ask(path, { headers: { 'last-event-id': id } });
      expect(await problemOf(answer)).toMatchObject({ status: 422, code: 'invalid_request' });
    },
  );

  test('are the same 404 for garbage, another principal’s and another gateway’s, and 503 without a link', async () => {
    const { bench, agent, execution } = await begun();
    const foreign = await begun();
    const key = await bench.key({ sub: 'bob' });
    const path = `/v1/executions/${execution.id}/events`;
    for (const answer of [
      await bench.ask('/v1/executions/garbage/events'),
      await bench.ask(`/v1/executions/${foreign.execution.id}/events`),
      await bench.ask(path, { key }),
      await bench.ask(path, { headers: { 'podgate-user': 'someone' } }),
    ])
      expect(await problemOf(answer)).toMatchObject({ status: 404, code: 'not_found' });
    agent.cut();
    expect(await problemOf(await bench.ask(path))).toMatchObject({ status: 503, code: 'no_agent' });
  });

  test('end with the key that reads them', async () => {
    const bench = await createGatewayBench({ denyList: true });
    const agent = await bench.agent({ refill: false });
    await bench.clock.settle();
    const key = await bench.key({ jti: 'bad' });
    const streamed = bench.ask('/v1/execute/stream', { body: DETACHED });
    const execution = (await agent.next()).begin();
    await streamed;
    const answer = bench.ask(`/v1/executions/${execution.id}/events`, { key });
    (await agent.attached(execution)).resume();
    const response = await answer;
    bench.auth.documents.set('deny', 'bad');
    await bench.auth.authenticator.refresh();
    expect(eventsOf(await response.text())[0]?.data).toMatchObject({ code: 'unauthorized' });
    expect(execution.cancelled).toBeUndefined();
  });
});

describe('detach', () => {
  test('lets an execution go on when its caller leaves, and waits for nobody', async () => {
    const { bench, agent, execution, response } = await begun();
    expect(execution.start.detach).toBe(true);
    await response.body?.cancel();
    for (let sent = 0; sent < 8; sent += 1) {
      execution.out('x'.repeat(100_000));
      await bench.clock.settle();
    }
    execution.file('a.txt', 'alpha').exit();
    await until(() => bench.records.length === 1);
    expect(bench.records[0]).toMatchObject({ outcome: 'exited', files_out: 1, stdout_bytes: 800_000 });
    expect(execution.cancelled).toBeUndefined();
    expect(agent.received.some(({ name }) => name === 'RESULT_ACK')).toBe(false);
    expect(bench.gateway.status()).toMatchObject({ running: 0, outputBytes: 0, requestBytes: 0 });
  });

  test('holds nothing back that its caller left untaken, and keeps none of it', async () => {
    const { bench, execution, response } = await begun();
    execution.out('x'.repeat(3 * STREAM_WINDOW_BYTES));
    await bench.clock.settle();
    await response.body?.cancel();
    await until(() => execution.agent.peer.outbox.empty);
    execution.exit();
    await until(() => bench.records.length === 1);
    expect(bench.gateway.status()).toMatchObject({ running: 0, outputBytes: 0 });
    const again = bench.ask('/v1/execute/stream', { body: DETACHED });
    const over = (await execution.agent.next()).begin().out('untaken');
    const untaken = await again;
    over.exit();
    await until(() => bench.records.length === 2);
    await untaken.body?.cancel();
    expect(bench.gateway.status()).toMatchObject({ running: 0, outputBytes: 0 });
  });

  test('lets go of a caller that takes nothing, and goes on', async () => {
    const { bench, execution, response } = await begun();
    execution.out('x'.repeat(3 * STREAM_WINDOW_BYTES));
    await bench.clock.settle();
    await bench.clock.advance(READER_STALL_MS);
    await expect(response.text()).rejects.toThrow('took nothing');
    expect(execution.cancelled).toBeUndefined();
    await until(() => execution.agent.peer.outbox.empty);
  });

  test('is no leave to run past the deadline', async () => {
    const { bench, execution, response } = await begun({ ...DETACHED, timeout_ms: 1_000 });
    await response.body?.cancel();
    await bench.clock.advance(10_000);
    expect(execution.cancelled).toBe('deadline_exceeded');
  });

  test('is cancelled by its id', async () => {
    const { bench, agent, execution, response } = await begun();
    await response.body?.cancel();
    agent.records.set(execution.id, {
      state: 'ended',
      record: { accepted_at_ms_ago: 1, started_at_ms_ago: 1, ended_at_ms_ago: 1, exit: null },
    });
    expect((await bench.ask(`/v1/executions/${execution.id}`, { method: 'DELETE' })).status).toBe(200);
    expect(await agent.seen('CANCEL')).toEqual({ reason: 'cancelled', execution_id: execution.id });
  });

  test('sends those who follow it elsewhere when its gateway drains, while who asked for it is still served', async () => {
    const made = await begun();
    const { stream, answer } = await follow(made);
    stream.resume().out('one');
    const followed = await answer;
    const drained = made.bench.gateway.drain(10_000);
    const events = eventsOf(await followed.text());
    expect(events.map(({ event }) => event)).toEqual(['output', 'error']);
    expect(events.at(-1)?.data).toMatchObject({ code: 'draining', started: 'yes' });
    made.execution.exit();
    expect(eventsOf(await made.response.text()).at(-1)?.event).toBe('result');
    await drained;
  });

  test('keeps a gateway that drains until those who follow it have been told', async () => {
    const made = await begun();
    await made.response.body?.cancel();
    const { stream, answer } = await follow(made);
    stream.resume();
    const followed = await answer;
    let isOver = false;
    const drained = made.bench.gateway.drain(10_000).then(() => {
      isOver = true;
    });
    await made.agent.seen('DETACH');
    await made.bench.clock.settle();
    expect(isOver).toBe(false);
    expect(eventsOf(await followed.text()).at(-1)?.data).toMatchObject({ code: 'draining' });
    await drained;
  });

  test('lets go of a gateway that drains, and of one that is closed', async () => {
    const left = await begun();
    await left.response.body?.cancel();
    await left.bench.gateway.drain(10_000);
    await left.agent.seen('DETACH');
    expect(left.execution.cancelled).toBeUndefined();
    const read = await begun();
    read.bench.gateway.close();
    expect(eventsOf(await read.response.text()).at(-1)?.data).toMatchObject({
      code: 'draining',
      started: 'yes',
    });
    expect(read.execution.cancelled).toBeUndefined();
  });
});

describe('Idempotency-Key', () => {
  const KEYED = { 'idempotency-key': 'once' };
  const BODY = { code: 'x', timeout_ms: 60_000 };

  async function first(slots = 4) {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ refill: false, slots });
    await bench.clock.settle();
    const ask = (path = '/v1/execute', changes: object = {}, headers: Record<string, string> = KEYED) =>
      bench.ask(path, { body: { ...BODY, ...changes }, headers });
    return { bench, agent, ask };
  }

  test('gives whoever repeats it while it is queued, starting, running or over the same execution', async () => {
    const { bench, agent, ask } = await first(0);
    const answers = [ask()];
    await until(() => bench.gateway.status().queued === 1);
    answers.push(ask());
    await bench.clock.settle();
    agent.grant(1);
    const execution = await agent.next();
    expect(execution.start.detach).toBe(true);
    answers.push(ask());
    await bench.clock.settle();
    execution.begin().out('o');
    const serve = async () => {
      const stream = await agent.attached(execution);
      Object.assign(stream.sent, { stdout: 0, stderr: 0 });
      stream.resume().out('out').exit();
    };
    await serve();
    await serve();
    answers.push(ask());
    await serve();
    execution.out('ut').exit();
    answers.push(ask());
    await serve();
    const bodies = await Promise.all(answers.map(async (answer) => (await answer).json()));
    for (const body of bodies) expect(body).toEqual(bodies[0]);
    expect(bodies[0]).toMatchObject({ stdout: 'out', execution_id: execution.id });
    expect(agent.executions).toEqual([]);
    const stream = ask('/v1/execute/stream');
    await serve();
    expect(eventsOf(await (await stream).text()).map(({ event }) => event)).toEqual(['output', 'result']);
    expect(agent.received.filter(({ name }) => name === 'START')).toHaveLength(1);
  });

  test('goes on when its caller leaves, and is read by whoever comes again', async () => {
    const { bench, agent } = await first();
    const leaving = new AbortController();
    const gone = bench.ask('/v1/execute', { body: BODY, headers: KEYED, signal: leaving.signal });
    const execution = (await agent.next()).begin();
    await bench.clock.settle();
    leaving.abort();
    await bench.clock.settle();
    expect(execution.cancelled).toBeUndefined();
    execution.out('done').exit();
    await gone;
    const again = bench.ask('/v1/execute', { body: BODY, headers: KEYED });
    const stream = await agent.attached(execution);
    Object.assign(stream.sent, { stdout: 0 });
    stream.resume().out('done').exit();
    expect(await (await again).json()).toMatchObject({ stdout: 'done' });
  });

  test('keeps no memory for who asks again and leaves, or is refused, before its agent has answered', async () => {
    const { bench, agent, ask } = await first();
    const answer = ask();
    const execution = await agent.next();
    execution.succeed();
    await answer;
    await until(() => bench.gateway.status().outputBytes === 0);
    const leaving = new AbortController();
    const { signal } = leaving;
    const gone = bench.ask('/v1/execute', { body: BODY, headers: KEYED, signal });
    const left = await agent.attached(execution);
    expect(bench.gateway.status().outputBytes).toBe(STREAM_WINDOW_BYTES);
    leaving.abort();
    await gone;
    expect(bench.gateway.status().outputBytes).toBe(0);
    await agent.seen('DETACH');
    left.resume().exit();
    const again = ask();
    (await agent.attached(execution)).nack('not_found');
    expect(await problemOf(await again)).toMatchObject({ status: 404 });
    expect(bench.gateway.status().outputBytes).toBe(0);
  });

  test.for([
    ['code', { code: 'y' }],
    ['timeout', { timeout_ms: 1 }],
    ['input', { stdin: '' }],
    ['place', { cluster: 'lab' }],
  ])('with another %s is a conflict, and runs nothing', async ([, changes]) => {
    const { agent, ask } = await first();
    const answer = ask();
    const execution = await agent.next();
    expect(await problemOf(await ask('/v1/execute', changes as object))).toMatchObject({
      status: 409,
      code: 'conflict',
      retryable: false,
    });
    execution.succeed();
    await answer;
    expect(agent.executions).toEqual([]);
  });

  test('is the principal’s own', async () => {
    const { bench, agent, ask } = await first();
    const mine = ask();
    (await agent.next()).succeed('mine');
    const theirs = bench.ask('/v1/execute', {
      body: BODY,
      headers: KEYED,
      key: await bench.key({ sub: 'bob' }),
    });
    (await agent.next()).succeed('theirs');
    const user = ask('/v1/execute', {}, { ...KEYED, 'podgate-user': 'carol' });
    (await agent.next()).succeed('hers');
    const said = await Promise.all([mine, theirs, user].map(async (answer) => (await answer).json()));
    expect(said).toMatchObject([{ stdout: 'mine' }, { stdout: 'theirs' }, { stdout: 'hers' }]);
  });

  test.for([
    ['cluster', { clusters: ['plant'] }],
    ['template', { templates: ['small'] }],
  ] as const)(
    'repeated with a key that may not use its %s says what it says without one',
    async ([, claims]) => {
      const { bench, agent, ask } = await first();
      const changes = { cluster: 'lab', template: 'default' };
      const mine = ask('/v1/execute', changes);
      (await agent.next()).succeed('mine');
      await mine;
      const key = await bench.key(claims);
      const asNarrow = async (headers: Record<string, string>, more: object = {}) => {
        const answer = await bench.ask('/v1/execute', {
          body: { ...BODY, ...changes, ...more },
          headers,
          key,
        });
        const { code, detail } = await problemOf(answer);
        return [answer.status, code, detail];
      };
      const plain = await asNarrow({});
      expect(plain[0]).toBe(404);
      expect(await asNarrow(KEYED)).toEqual(plain);
      expect(await asNarrow(KEYED, { code: 'other' })).toEqual(plain);
    },
  );

  test('repeated without a place by a key that may not use where it runs is a conflict, told nothing, and runs nothing', async () => {
    const { bench, agent, ask } = await first();
    const clusters = [announceCluster({ name: 'plant' })];
    const other = await bench.agent({ instance: 'instance-2', clusters });
    await bench.clock.settle();
    const headers = { 'idempotency-key': 'to-lab' };
    const mine = ask('/v1/execute', {}, headers);
    const execution = await agent.next();
    const repeat = async () =>
      problemOf(
        await bench.ask('/v1/execute', {
          body: BODY,
          headers,
          key: await bench.key({ clusters: ['plant'] }),
        }),
      );
    const refused = {
      status: 409,
      code: 'conflict',
      detail: 'This Idempotency-Key stands for an execution that your key may not reach; use a new one.',
    };
    execution.begin();
    expect(await repeat()).toMatchObject(refused);
    await bench.clock.settle();
    agent.cut();
    await bench.clock.advance(120_000);
    expect((await mine).status).toBe(502);
    expect(await repeat()).toMatchObject(refused);
    expect(other.executions).toEqual([]);
  });

  test('of what was refused before it ran is new again', async () => {
    const { agent, ask } = await first();
    const refused = [ask(), ask()];
    (await agent.next()).nack('policy_denied');
    for (const answer of refused) expect((await answer).status).toBe(403);
    const again = ask('/v1/execute', { code: 'other' });
    (await agent.next()).succeed('ran');
    expect(await (await again).json()).toMatchObject({ stdout: 'ran' });
  });

  test('of what failed once it had started is answered the same while nobody can tell more', async () => {
    const { bench, agent, ask } = await first();
    const answer = ask('/v1/execute', { timeout_ms: 1_000 });
    (await agent.next()).begin();
    await bench.clock.settle();
    agent.cut();
    await bench.clock.advance(10_000);
    const lost = await problemOf(await answer);
    expect(lost).toMatchObject({ status: 502, code: 'agent_lost', started: 'yes' });
    const again = await problemOf(await ask('/v1/execute', { timeout_ms: 1_000 }));
    expect(again).toMatchObject({ status: 502, code: 'agent_lost', started: 'yes' });
  });

  test('is new ten minutes after the end, and not before', async () => {
    const { bench, agent, ask } = await first(8);
    const answer = ask();
    const execution = await agent.next();
    execution.succeed('first');
    await answer;
    await bench.clock.advance(RECORD_TTL_MS - 1);
    const same = ask();
    (await agent.attached(execution)).resume().exit({ stdout_bytes: 5 });
    expect((await same).status).toBe(200);
    await bench.clock.advance(1);
    const anew = ask();
    (await agent.next()).succeed('second');
    expect(await (await anew).json()).toMatchObject({ stdout: 'second' });
  });

  test('is asked about at every agent of its cluster, before anything begins at one', async () => {
    const { bench, agent, ask } = await first(0);
    const other = await bench.agent({ refill: false, instance: 'instance-2', slots: 1 });
    const elsewhere = await bench.agent({
      refill: false,
      instance: 'instance-3',
      clusters: [announceCluster({ name: 'away' })],
    });
    await bench.clock.settle();
    other.silent = true;
    const unsure = ask('/v1/execute', { cluster: 'lab' });
    await other.seen('CLAIM');
    await bench.clock.advance(STATUS_TIMEOUT_MS);
    expect(await problemOf(await unsure)).toMatchObject({ status: 503, code: 'no_agent', retryable: true });
    other.silent = false;
    other.grant(1);
    const answer = ask('/v1/execute', { cluster: 'lab' });
    const execution = await other.next();
    const claims = agent.received.filter(({ name }) => name === 'CLAIM').map(({ body }) => body);
    expect(claims.at(-1)).toMatchObject({
      execution_id: execution.id,
      key: execution.start.key,
      release: false,
    });
    expect(elsewhere.received.some(({ name }) => name === 'CLAIM')).toBe(false);
    execution.succeed();
    expect((await answer).status).toBe(200);
    expect([agent.executions, other.executions]).toEqual([[], []]);
  });

  test('that an agent has no room to remember is at_capacity and begins nothing, and others’ keys have theirs', async () => {
    const { bench, agent, ask } = await first();
    const answer = ask();
    const execution = await agent.next();
    execution.succeed();
    expect((await answer).status).toBe(200);
    const { holder } = execution.start;
    const fill = { ref: 1, digest: 'd', execution_id: 'e', replaces: null, keep_ms: 600_000, release: false };
    for (let n = 1; n < MAX_CLAIMS_PER_HOLDER; n += 1) agent.claims.claim({ ...fill, key: `${n}`, holder });
    const other = { 'idempotency-key': 'other' };
    for (const headers of [other, { ...other, 'podgate-user': 'carol' }]) {
      const refused = await ask('/v1/execute', {}, headers);
      expect(refused.headers.get('retry-after')).toBe('10');
      expect(await problemOf(refused)).toMatchObject({ status: 503, code: 'at_capacity', retryable: true });
    }
    expect(agent.executions).toEqual([]);
    const key = await bench.key({ sub: 'bob' });
    const theirs = bench.ask('/v1/execute', { body: BODY, headers: KEYED, key });
    (await agent.next()).succeed();
    expect((await theirs).status).toBe(200);
  });

  test('of what ends while its agents are asked is asked of no more of them, and given back by all', async () => {
    const { bench, agent, ask } = await first();
    const agents = [agent];
    for (const instance of ['instance-2', 'instance-3', 'instance-4'])
      agents.push(await bench.agent({ refill: false, instance, slots: 0 }));
    await bench.clock.settle();
    for (const each of agents) each.silent = true;
    const answer = ask('/v1/execute', { cluster: 'lab', timeout_ms: 1, queue_timeout_ms: 0 });
    // The answer is due while the third is asked.
    for (const each of agents.slice(0, 3)) {
      const claim = await each.seen('CLAIM');
      await bench.clock.advance(STATUS_TIMEOUT_MS - 500);
      const kept = each.claims.claim(claim) as ClaimAnswer;
      each.send('CLAIM', { ref: claim.ref, ...kept, state: 'unknown' });
      await bench.clock.settle();
    }
    expect(await problemOf(await answer)).toMatchObject({ code: 'maybe_started', started: 'unknown' });
    const asked = agents.map(({ received }) =>
      received.flatMap(({ name, body }) => (name === 'CLAIM' ? [body as FromGateway['CLAIM']] : [])),
    );
    const [asks, givenBack] = [false, true];
    expect(asked.map((claims) => claims.map(({ release }) => release))).toEqual([
      [asks, givenBack],
      [asks, givenBack],
      [asks, givenBack],
      [givenBack],
    ]);
  });

  test('whose execution another gateway had fenced before its START came is asked about anew', async () => {
    const { agent, ask } = await first();
    const answer = ask();
    const fenced = await agent.next();
    fenced.nack('duplicate');
    const again = await agent.next();
    expect(again.id).not.toBe(fenced.id);
    const claims = agent.received.filter(({ name }) => name === 'CLAIM').map(({ body }) => body);
    expect(claims.at(-1)).toMatchObject({ execution_id: again.id, replaces: fenced.id });
    again.succeed('once');
    expect(await (await answer).json()).toMatchObject({ stdout: 'once' });
  });

  describe('whose cluster has an agent that was there a moment ago', () => {
    async function away(leave: (other: MockAgent) => void, slots = 4) {
      const { bench, agent, ask } = await first(slots);
      const other = await bench.agent({ refill: false, instance: 'instance-0', slots: 0 });
      await bench.clock.settle();
      leave(other);
      await bench.clock.settle();
      other.cut();
      await bench.clock.settle();
      return {
        bench,
        agent,
        other,
        ask: () => ask('/v1/execute', { queue_timeout_ms: 60_000, cluster: 'lab' }),
      };
    }

    test('waits for it, as it may be all who remembers the key', async () => {
      const { bench, agent, other, ask } = await away(() => {});
      const answer = ask();
      await bench.clock.advance(4 * CLAIM_POLL_MS);
      expect(agent.received.some(({ name }) => name === 'CLAIM')).toBe(false);
      const back = await bench.agent({ ...other.options });
      await back.seen('CLAIM');
      (await agent.next()).succeed();
      expect((await answer).status).toBe(200);
    });

    test('waits for one that another agent was told of, where this gateway has just begun', async () => {
      const { bench, agent } = await first();
      const anew = createGateway(bench.deps);
      const key = await bench.key();
      const link = await new MockAgent(anew, {
        ...agent.options,
        instance: 'instance-1',
        hello: { peers: ['instance-0'] },
      }).joined();
      const answer = anew.fetch(
        new Request('http://gate.example/v1/execute', {
          method: 'POST',
          headers: { ...KEYED, authorization: `Bearer ${key}` },
          body: JSON.stringify({ ...BODY, cluster: 'lab', queue_timeout_ms: 60_000 }),
        }),
      );
      await until(() => anew.status().running + anew.status().queued > 0);
      await bench.clock.advance(4 * CLAIM_POLL_MS);
      expect(link.received.some(({ name }) => name === 'CLAIM')).toBe(false);
      const other = await new MockAgent(anew, {
        ...agent.options,
        instance: 'instance-0',
        slots: 0,
      }).joined();
      await bench.clock.advance(CLAIM_POLL_MS);
      await other.seen('CLAIM');
      expect(await other.seen('WELCOME')).toMatchObject({ peers: ['instance-1'] });
      (await link.next()).succeed();
      expect((await answer).status).toBe(200);
    });

    test('begins without it once it counts as gone', async () => {
      const { bench, agent, ask } = await away(() => {});
      const answer = ask();
      for (let waitedMs = 0; waitedMs < COMEBACK_MS; waitedMs += CLAIM_POLL_MS) {
        expect(agent.executions).toEqual([]);
        await bench.clock.advance(CLAIM_POLL_MS);
      }
      (await agent.next()).succeed();
      expect((await answer).status).toBe(200);
    });

    test.for([
      ['begins without it where it leaves as it is asked', true],
      ['asks it again where its link is lost as it is asked', false],
    ] as const)('%s', async ([, leaves]) => {
      const { bench, agent, ask } = await first(4);
      const other = await bench.agent({ refill: false, instance: 'instance-0', slots: 0 });
      await bench.clock.settle();
      other.silent = true;
      const answer = ask('/v1/execute', { queue_timeout_ms: 60_000, cluster: 'lab' });
      await other.seen('CLAIM');
      if (leaves) other.send('DRAIN', { deadline_ms: 1_000 });
      await bench.clock.settle();
      other.cut();
      if (!leaves) await (await bench.agent({ ...other.options })).seen('CLAIM');
      (await agent.next()).succeed();
      expect((await answer).status).toBe(200);
    });

    test('takes no slot while it waits: whoever has no key gets it', async () => {
      const { bench, agent, other, ask } = await away(() => {}, 1);
      const held = ask();
      await until(() => bench.gateway.status().running + bench.gateway.status().queued > 0);
      await bench.clock.settle();
      const body = { ...BODY, cluster: 'lab', queue_timeout_ms: 0 };
      const plain = bench.ask('/v1/execute', { body });
      (await agent.next()).succeed('without');
      expect(await (await plain).json()).toMatchObject({ stdout: 'without' });
      agent.grant(1);
      await bench.agent({ ...other.options });
      (await agent.next()).succeed('with');
      expect(await (await held).json()).toMatchObject({ stdout: 'with' });
    });

    test('begins without it where it said that it goes', async () => {
      const { agent, ask } = await away((other) => other.send('DRAIN', { deadline_ms: 1_000 }));
      const answer = ask();
      (await agent.next()).succeed();
      expect((await answer).status).toBe(200);
    });

    test('is refused where there is no time to wait, and nothing runs', async () => {
      const { bench, agent } = await away(() => {});
      const answer = bench.ask('/v1/execute', {
        body: { ...BODY, cluster: 'lab', queue_timeout_ms: CLAIM_POLL_MS },
        headers: KEYED,
      });
      await until(() => bench.gateway.status().running + bench.gateway.status().queued > 0);
      for (let polls = 0; polls < 4; polls += 1) await bench.clock.advance(CLAIM_POLL_MS);
      expect(await problemOf(await answer)).toMatchObject({ status: 503, code: 'no_agent' });
      expect(agent.executions).toEqual([]);
    });
  });

  /** An execution that is over, of which its agent alone knows. */
  async function runOnce(agent: MockAgent, ask: () => Promise<Response>): Promise<MockExecution> {
    const begun = ask();
    const execution = (await agent.next()).begin();
    execution.out('theirs').exit();
    await begun;
    agent.records.set(execution.id, { state: 'ended', record: null });
    return execution;
  }

  test('that stands for what another gateway has begun is read there', async () => {
    const { bench, agent, ask } = await first();
    const execution = await runOnce(agent, ask);
    // As a gateway that was started anew: it knows no key.
    const anew = createGateway(bench.deps);
    const link = await new MockAgent(anew, { ...agent.options, instance: agent.instance }).joined();
    Object.assign(link, { claims: agent.claims, records: agent.records });
    await bench.clock.settle();
    const again = (changes: object) =>
      anew.fetch(
        new Request('http://gate.example/v1/execute', {
          method: 'POST',
          headers: { ...KEYED, authorization: `Bearer ${key}` },
          body: JSON.stringify({ ...BODY, ...changes }),
        }),
      );
    const key = await bench.key();
    expect(await problemOf(await again({ code: 'other' }))).toMatchObject({ status: 409, code: 'conflict' });
    for (let repeats = 0; repeats < 2; repeats += 1) {
      const answer = again({});
      const stream = await link.attached(execution);
      Object.assign(stream.sent, { stdout: 0 });
      stream.resume().out('theirs').exit();
      expect(await (await answer).json()).toMatchObject({ stdout: 'theirs', execution_id: execution.id });
    }
    expect(link.executions).toEqual([]);
  });

  test('that another agent keeps is read at once where its execution has begun', async () => {
    const { bench, agent, ask } = await first();
    const other = await bench.agent({ refill: false, instance: 'instance-0', slots: 0 });
    await bench.clock.settle();
    const execution = await runOnce(agent, ask);
    const anew = createGateway(bench.deps);
    const linkOf = async (old: MockAgent) => {
      const link = await new MockAgent(anew, { ...old.options }).joined();
      return Object.assign(link, { claims: old.claims, records: old.records });
    };
    const [keeper, link] = [await linkOf(other), await linkOf(agent)];
    await bench.clock.settle();
    const answer = anew.fetch(
      new Request('http://gate.example/v1/execute', {
        method: 'POST',
        headers: { ...KEYED, authorization: `Bearer ${await bench.key()}` },
        body: JSON.stringify(BODY),
      }),
    );
    const stream = await link.attached(execution);
    Object.assign(stream.sent, { stdout: 0 });
    stream.resume().out('theirs').exit();
    expect(await (await answer).json()).toMatchObject({ stdout: 'theirs', execution_id: execution.id });
    expect(keeper.received.some(({ name }) => name === 'CLAIM')).toBe(true);
  });

  test.for([
    ['fenced', 'is run by the next gateway where its own is gone before it began'],
    ['unknown', 'is never run again where nobody can tell whether it began'],
  ] as const)('whose execution is %s %s', async ([state]) => {
    const { bench, agent } = await first();
    const gateway = () => createGateway(bench.deps);
    const key = await bench.key();
    const askAt = (at: ReturnType<typeof createGateway>) =>
      at.fetch(
        new Request('http://gate.example/v1/execute', {
          method: 'POST',
          headers: { ...KEYED, authorization: `Bearer ${key}` },
          body: JSON.stringify({ ...BODY, queue_timeout_ms: 1_000 }),
        }),
      );
    const linkTo = async (at: ReturnType<typeof createGateway>) => {
      const link = await new MockAgent(at, { ...agent.options, instance: agent.instance }).joined();
      Object.assign(link, { claims: agent.claims, records: agent.records });
      await bench.clock.settle();
      return link;
    };
    const [before, after] = [gateway(), gateway()];
    const old = await linkTo(before);
    void askAt(before);
    const execution = await old.next();
    // Its START did not arrive.
    agent.claims.refused(execution.start.key as string);
    agent.records.set(execution.id, { state, record: null });
    const link = await linkTo(after);
    const answer = askAt(after);
    await link.seen('CLAIM');
    const asked = () =>
      link.received.flatMap(({ name, body }) => (name === 'STATUS' ? [body as FromGateway['STATUS']] : []));
    // Asked at each look, and in the end to refuse it.
    for (let looks = 1; !asked().at(-1)?.refuse_if_unknown; looks += 1) {
      await until(() => asked().length === looks);
      await bench.clock.settle();
      await bench.clock.advance(CLAIM_POLL_MS);
    }
    if (state === 'unknown')
      expect(await problemOf(await answer)).toMatchObject({
        status: 502,
        code: 'maybe_started',
        started: 'unknown',
      });
    else {
      (await link.next()).succeed('by the next');
      expect(await (await answer).json()).toMatchObject({ stdout: 'by the next' });
    }
    expect(link.executions).toEqual([]);
  });

  test('answers whoever repeats it with as much output as was asked for, however much its agent then says it may be', async () => {
    const { bench, agent, ask } = await first();
    const changes = { limits: { max_output_bytes: 100 } };
    const begun = ask('/v1/execute', changes);
    const execution = (await agent.next()).begin();
    await bench.clock.settle();
    const answer = ask('/v1/execute', changes);
    const stream = await agent.attached(execution);
    agent.send('ACCEPT', { attached: { max_output_bytes: 1_000_000_000, queue_ms: 0 } }, stream.stream);
    agent.send('STARTED', {}, stream.stream);
    stream.out('x'.repeat(60)).err('y'.repeat(100)).out('x'.repeat(41)).out('z').exit();
    const marker = '\n...[truncated]';
    expect(await (await answer).json()).toMatchObject({
      stdout: 'x'.repeat(100 - marker.length) + marker,
      stdout_truncated: true,
      stderr: 'y'.repeat(100),
      stderr_truncated: false,
    });
    execution.exit();
    await begun;
  });

  test.for(['', ' ', 'ü', 'a b', 'x'.repeat(256)])('"%s" is none', async (text) => {
    const { agent, ask } = await first();
    const answer = await ask('/v1/execute', {}, { 'idempotency-key': text });
    expect(await problemOf(answer)).toMatchObject({ status: 422, code: 'invalid_request' });
    expect(agent.executions).toEqual([]);
  });

  test('of 255 characters is one', async () => {
    const { agent, ask } = await first();
    const answer = ask('/v1/execute', {}, { 'idempotency-key': 'x'.repeat(255) });
    (await agent.next()).succeed();
    expect((await answer).status).toBe(200);
  });
});
