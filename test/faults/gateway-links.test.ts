import { describe, expect, test } from 'vitest';
import { COMEBACK_MS } from '../../gateway/clusters/instance.ts';
import { MAX_UNANSWERED, STATUS_TIMEOUT_MS } from '../../gateway/execution/sister-link.ts';
import { executionStatus } from '../../shared/api.ts';
import { ANSWER_GRACE_MS } from '../../shared/limits.ts';
import { createGatewayBench, type GatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import { type MockAgent, RESULT } from '../fakes/mock-agent.ts';
import type { MockExecution } from '../fakes/mock-execution.ts';
import { until } from '../fakes/until.ts';

const RECORD = { accepted_at_ms_ago: 30, started_at_ms_ago: null, ended_at_ms_ago: null, exit: null };

const FROM_THE_START = { reader: null, offsets: { '1': 0, '2': 0, '3': 0 }, files: 0, pending: 0 };

type Sisters = {
  bench: GatewayBench;
  links: MockAgent[];
  answer: Promise<Response>;
  execution: MockExecution;
};

/** One instance with `count` links, and an execution on the first that took it. */
async function sisters(count: number, path = '/v1/execute', request: object = {}): Promise<Sisters> {
  const bench = await createGatewayBench();
  const identity = await bench.identity();
  const links: MockAgent[] = [];
  for (let index = 0; index < count; index += 1) links.push(await bench.agent({ identity, refill: false }));
  await bench.clock.settle();
  const answer = bench.ask(path, { body: { code: 'x', ...request } });
  await until(() => links.some(({ executions }) => executions.length > 0));
  const first = links.find(({ executions }) => executions.length > 0) as MockAgent;
  links.sort((a) => (a === first ? -1 : 1));
  return { bench, links, answer, execution: await first.next() };
}

const isStatus = ({ name }: { name: string }) => name === 'STATUS';

/** Frames of mock agents cross in microtasks. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a link that is lost before ACCEPT', () => {
  test('is asked about over its sister, with fence, and what was fenced runs elsewhere', async () => {
    const { bench, links, answer, execution } = await sisters(2);
    links[0]?.cut();
    const asked = await links[1]?.seen('STATUS');
    expect(asked).toMatchObject({ execution_id: execution.id, refuse_if_unknown: true });
    const again = await links[1]?.next();
    expect(again?.id).not.toBe(execution.id);
    again?.succeed('once');
    expect(await (await answer).json()).toMatchObject({ stdout: 'once' });
    await expect.poll(() => bench.records[0]?.attempts).toBe(2);
  });

  test('and has no sister may have started', async () => {
    const { bench, links, answer } = await sisters(1, '/v1/execute', { timeout_ms: 60_000 });
    links[0]?.cut();
    await bench.clock.settle();
    await bench.clock.advance(COMEBACK_MS);
    expect(await problemOf(await answer)).toMatchObject({
      status: 502,
      code: 'maybe_started',
      started: 'unknown',
      retryable: false,
    });
  });

  test('and whose sister does not answer may have started', async () => {
    const { bench, links, answer } = await sisters(2, '/v1/execute', { timeout_ms: 60_000 });
    const [first, second] = links as [MockAgent, MockAgent];
    second.silent = true;
    first.cut();
    await second.seen('STATUS');
    for (let asked = 0; asked < MAX_UNANSWERED; asked += 1) {
      expect(second.received.filter(isStatus)).toHaveLength(asked + 1);
      await bench.clock.advance(STATUS_TIMEOUT_MS);
      // It is no dead link: it only does not say.
      second.send('HEARTBEAT', { id: asked, reply: false, echo: null, running: 0 });
    }
    expect(await problemOf(await answer)).toMatchObject({ code: 'maybe_started', started: 'unknown' });
  });

  test('and whose sister stalls is asked about again, over whichever link is heard', async () => {
    const { bench, links, answer, execution } = await sisters(2, '/v1/execute', { timeout_ms: 60_000 });
    const [first, second] = links as [MockAgent, MockAgent];
    second.silent = true;
    first.cut();
    await second.seen('STATUS');
    const third = await bench.agent({ identity: first.options.identity });
    await bench.clock.advance(STATUS_TIMEOUT_MS);
    await until(() => [second, third].some(({ received }) => received.filter(isStatus).length > 0));
    second.silent = false;
    await bench.clock.advance(STATUS_TIMEOUT_MS);
    const again = await Promise.race([second.next(), third.next()]);
    expect(again.id).not.toBe(execution.id);
    again.succeed('once');
    expect(await (await answer).json()).toMatchObject({ stdout: 'once' });
  });

  test('together with its sister, is asked about over the link that follows', async () => {
    const { bench, links, answer, execution } = await sisters(2);
    const [first, second] = links as [MockAgent, MockAgent];
    second.silent = true;
    first.cut();
    await second.seen('STATUS');
    second.cut();
    await bench.clock.settle();
    const back = await bench.agent({ identity: first.options.identity });
    expect(await back.seen('STATUS')).toMatchObject({ execution_id: execution.id, refuse_if_unknown: true });
    (await back.next()).succeed('once');
    expect(await (await answer).json()).toMatchObject({ stdout: 'once' });
  });

  test('and whose instance comes back in time is asked then', async () => {
    const { bench, links, answer, execution } = await sisters(1, '/v1/execute', { timeout_ms: 60_000 });
    const [first] = links as [MockAgent];
    const { identity } = first.options;
    first.cut();
    await bench.clock.settle();
    await bench.clock.advance(COMEBACK_MS - 500);
    const back = await bench.agent({ identity });
    expect(await back.seen('STATUS')).toMatchObject({ execution_id: execution.id });
    (await back.next()).succeed('late');
    expect(await (await answer).json()).toMatchObject({ stdout: 'late' });
  });

  test.for(['accepted', 'started', 'ended'] as const)(
    'and had got to %s there goes on over its sister, from its first byte',
    async (state) => {
      const { links, answer, execution } = await sisters(2);
      const [first, second] = links as [MockAgent, MockAgent];
      const startedAgo = state === 'accepted' ? null : 5;
      second.records.set(execution.id, { state, record: { ...RECORD, started_at_ms_ago: startedAgo } });
      first.cut();
      const again = await second.attached(execution);
      expect(again.from).toEqual({ ...FROM_THE_START, execution_id: execution.id });
      again.resume().out('all of it').exit();
      expect(await (await answer).json()).toMatchObject({ stdout: 'all of it', exit_code: 0 });
      expect(second.executions).toEqual([]);
    },
  );

  test('and which its agent drops while it is attached to is asked about once more', async () => {
    const { links, answer, execution } = await sisters(2);
    const [first, second] = links as [MockAgent, MockAgent];
    second.records.set(execution.id, { state: 'accepted', record: RECORD });
    first.cut();
    const again = await second.attached(execution);
    second.records.delete(execution.id);
    again.nack('not_found');
    (await second.next()).succeed('once');
    expect(await (await answer).json()).toMatchObject({ stdout: 'once' });
  });
});

describe('a link that is lost later', () => {
  test('after ACCEPT, its agent gone too, is agent_lost and unknown', async () => {
    const { bench, links, answer, execution } = await sisters(1, '/v1/execute', { timeout_ms: 60_000 });
    execution.accept();
    await bench.clock.settle();
    links[0]?.cut();
    await bench.clock.settle();
    await bench.clock.advance(COMEBACK_MS);
    expect(await problemOf(await answer)).toMatchObject({ code: 'agent_lost', started: 'unknown' });
  });

  test('while it streams, and is never back, ends the stream with one error that says it started', async () => {
    const { bench, links, answer, execution } = await sisters(1, '/v1/execute/stream', {
      timeout_ms: 60_000,
    });
    execution.begin().out('partial');
    const response = await answer;
    await bench.clock.settle();
    links[0]?.cut();
    const reading = response.text();
    await bench.clock.settle();
    await bench.clock.advance(COMEBACK_MS);
    const text = await reading;
    expect(text).toContain('{"stream":"stdout","data":"partial"}');
    expect(text).toMatch(
      /event: error\ndata: \{"message":"[^"]+","code":"agent_lost","started":"yes"\}\n\n$/,
    );
  });

  test('goes on over its sister at once, behind the last byte and the last file that came', async () => {
    const { links, answer, execution } = await sisters(2);
    const [first, second] = links as [MockAgent, MockAgent];
    execution.begin().out('one ').err('!').file('empty', '').file('a.txt', 'alpha');
    await settled();
    first.cut();
    const again = await second.attached(execution);
    expect(again.from).toMatchObject({ reader: null, offsets: { '1': 4, '2': 1, '3': 5 }, files: 2 });
    again.resume().out('two').file('b.txt', 'beta').exit();
    const body = (await (await answer).json()) as { files: { path: string }[] };
    expect(body).toMatchObject({ stdout: 'one two', stderr: '!', exit_code: 0, files_omitted: [] });
    expect(body.files.map(({ path }) => path)).toEqual(['empty', 'a.txt', 'b.txt']);
    expect(await second.seen('RESULT_ACK')).toEqual({ execution_id: execution.id });
  });

  test('goes on over a link that comes later, as often as it is lost', async () => {
    const { bench, links, answer, execution } = await sisters(1, '/v1/execute', { timeout_ms: 60_000 });
    let [link] = links as [MockAgent];
    const { identity } = link.options;
    let at = execution.begin();
    for (const part of ['a', 'b', 'c', 'd']) {
      at.out(part);
      await bench.clock.settle();
      link.cut();
      await bench.clock.settle();
      await bench.clock.advance(5_000);
      link = await bench.agent({ identity, refill: false });
      at = (await link.attached(execution)).resume();
      Object.assign(at.sent, { stdout: part.charCodeAt(0) - 96 });
    }
    at.out('e').exit();
    expect(await (await answer).json()).toMatchObject({ stdout: 'abcde', exit_code: 0 });
  });

  test('while what came of it waits for its reader gives the new stream no second window', async () => {
    const { bench, links, answer, execution } = await sisters(2, '/v1/execute/stream');
    const [first, second] = links as [MockAgent, MockAgent];
    execution.begin().out('x'.repeat(200_000));
    const response = await answer;
    await bench.clock.settle();
    first.cut();
    const again = await second.attached(execution);
    expect(again.from).toMatchObject({ offsets: { '1': 200_000 }, pending: 200_000 });
    again.resume().out('y'.repeat(62_144)).exit();
    expect(second.closed).toBeUndefined();
    expect(await response.text()).toContain('event: result');
  });

  test('with bytes that are gone is agent_lost, never output with a hole', async () => {
    const { links, answer, execution } = await sisters(2);
    const [first, second] = links as [MockAgent, MockAgent];
    execution.begin().out('one');
    await settled();
    first.cut();
    const again = await second.attached(execution);
    again.resume().gap(1, 3, 10);
    expect(await problemOf(await answer)).toMatchObject({ status: 502, code: 'agent_lost', started: 'yes' });
    await until(() => again.cancelled === 'agent_lost');
  });

  test('by silence is found by its heartbeats and goes on like any other', async () => {
    const { bench, links, answer, execution } = await sisters(2, '/v1/execute', { timeout_ms: 60_000 });
    execution.begin();
    const [first, second] = links as [MockAgent, MockAgent];
    first.silent = true;
    await bench.clock.advance(30_000);
    expect(first.closed?.code).toBe(1006);
    (await second.attached(execution)).resume().out('still here').exit();
    expect(await (await answer).json()).toMatchObject({ stdout: 'still here' });
  });

  test.for([
    ['DELETE', 'cancelled'],
    ['the caller who leaves', 'cancelled'],
  ] as const)('and cancelled by %s before it is back is cancelled by its id', async ([how]) => {
    const bench = await createGatewayBench();
    const identity = await bench.identity();
    const agent = await bench.agent({ identity, refill: false });
    const leaving = new AbortController();
    const answer = bench.ask('/v1/execute', {
      body: { code: '', timeout_ms: 60_000 },
      signal: leaving.signal,
    });
    const execution = (await agent.next()).begin();
    await bench.clock.settle();
    agent.cut();
    await bench.clock.settle();
    if (how !== 'DELETE') leaving.abort();
    const back = await bench.agent({ identity, refill: false });
    if (how === 'DELETE') await bench.ask(`/v1/executions/${execution.id}`, { method: 'DELETE' });
    expect(await back.seen('CANCEL')).toEqual({ reason: 'cancelled', execution_id: execution.id });
    if (how === 'DELETE')
      (await back.attached(execution)).resume().exit({ outcome: 'cancelled', exit_code: null });
    await answer;
    expect(bench.gateway.status().running).toBe(0);
  });

  test('touches no execution of another link', async () => {
    const { bench, links, answer, execution } = await sisters(2);
    execution.begin();
    const other = bench.ask('/v1/execute', { body: { code: 'other' } });
    await until(() => (links[1]?.executions.length ?? 0) > 0);
    links[0]?.message('not a frame');
    await bench.clock.settle();
    const [first, second] = [await links[1]?.attached(execution), await links[1]?.next()];
    second?.succeed('fine');
    expect(await (await other).json()).toMatchObject({ stdout: 'fine' });
    first?.resume().exit();
    expect((await answer).status).toBe(200);
  });
});

describe('the answer', () => {
  test.for(['sent', 'accepted', 'started'] as const)(
    'comes by timeout, queue timeout and grace, though the agent says nothing after it was %s',
    async (last) => {
      const { bench, answer, execution } = await sisters(1, '/v1/execute', {
        timeout_ms: 1_000,
        queue_timeout_ms: 2_000,
      });
      if (last === 'accepted') execution.accept();
      if (last === 'started') execution.begin();
      let settled = false;
      void answer.then(() => {
        settled = true;
      });
      await bench.clock.settle();
      await bench.clock.advance(3_000 + ANSWER_GRACE_MS - 1);
      expect(settled).toBe(false);
      await bench.clock.advance(1);
      expect(await problemOf(await answer)).toMatchObject({
        status: 502,
        code: 'deadline_exceeded',
        started: last === 'started' ? 'yes' : 'unknown',
      });
      expect(execution.cancelled).toBe('deadline_exceeded');
    },
  );

  test('comes in time from an agent that sends and sends and never says EXIT', async () => {
    const { bench, answer, execution } = await sisters(1, '/v1/execute', {
      timeout_ms: 1_000,
      queue_timeout_ms: 0,
    });
    execution.begin();
    for (let sent = 0; sent < 7; sent += 1) {
      execution.out('x'.repeat(100_000));
      await bench.clock.advance(500);
    }
    expect(execution.cancelled).toBeUndefined();
    execution.out('x'.repeat(100_000));
    await bench.clock.advance(500);
    expect(await problemOf(await answer)).toMatchObject({ code: 'deadline_exceeded', started: 'yes' });
  });

  test('comes in time when the link is lost just before, too', async () => {
    const { bench, links, answer } = await sisters(1, '/v1/execute', { timeout_ms: 1, queue_timeout_ms: 0 });
    await bench.clock.advance(ANSWER_GRACE_MS - 500);
    links[0]?.cut();
    await bench.clock.settle();
    await bench.clock.advance(501);
    expect(await problemOf(await answer)).toMatchObject({ code: 'maybe_started', started: 'unknown' });
  });
});

describe('a key that ends', () => {
  test('by revocation cancels what runs, streams among it, and what waits', async () => {
    const bench = await createGatewayBench({ denyList: true });
    const agent = await bench.agent({ slots: 1, refill: false });
    await bench.clock.settle();
    const key = await bench.key({ jti: 'bad', sub: 'mallory' });
    const streamed = bench.ask('/v1/execute/stream', { key, body: { code: '' } });
    const execution = (await agent.next()).begin().out('before');
    const response = await streamed;
    const queued = bench.ask('/v1/execute', { key, body: { code: '' } });
    await until(() => bench.gateway.status().queued === 1);
    bench.auth.documents.set('deny', 'bad');
    await bench.auth.authenticator.refresh();
    expect(await response.text()).toMatch(
      /event: error\ndata: \{.*"code":"unauthorized","started":"yes"\}\n\n$/,
    );
    expect((await queued).status).toBe(401);
    await until(() => execution.cancelled === 'unauthorized');
    expect(bench.gateway.status()).toMatchObject({ running: 0, queued: 0 });
  });

  test('by time cancels what runs', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    await bench.clock.settle();
    const exp = Math.floor(bench.clock.wall() / 1000) + 5;
    const key = await bench.key({ exp });
    const answer = bench.ask('/v1/execute', { key, body: { code: '', timeout_ms: 60_000 } });
    const execution = (await agent.next()).begin();
    await bench.clock.settle();
    for (let beat = 0; beat < 3; beat += 1) await bench.clock.advance(10_000);
    expect(execution.cancelled).toBeUndefined();
    await bench.clock.advance(5_000);
    expect((await answer).status).toBe(401);
    expect(execution.cancelled).toBe('unauthorized');
  });
});

describe('drain', () => {
  test('of the gateway lets what waits begin and what runs end, and refuses the rest', async () => {
    const { bench, links, answer, execution } = await sisters(1);
    execution.begin();
    for (let n = 0; n < 3; n += 1) void bench.ask('/v1/execute', { body: { code: '' } });
    await until(() => (links[0]?.executions.length ?? 0) === 3);
    const waiting = bench.ask('/v1/execute', { body: { code: '' } });
    await until(() => bench.gateway.status().queued === 1);
    const drained = bench.gateway.drain(20_000);
    await bench.clock.advance(1_000);
    expect(links[0]?.received.some(({ name }) => name === 'GOAWAY')).toBe(false);
    links[0]?.grant(1);
    expect(await links[0]?.seen('GOAWAY')).toMatchObject({ reason: 'draining', deadline_ms: 19_000 });
    const refused = await bench.ask('/v1/execute', { body: { code: '' } });
    expect(refused.headers.get('retry-after')).toBe('1');
    expect(await problemOf(refused)).toMatchObject({ status: 503, code: 'draining' });
    expect((await bench.ask('/ready')).status).toBe(503);
    expect(bench.gateway.acceptsLinks()).toBe(false);
    await bench.clock.advance(5_000);
    expect(links[0]?.closed).toBeUndefined();
    for (const each of links[0]?.executions ?? []) each.succeed();
    expect((await waiting).status).toBe(200);
    execution.out('whole').exit();
    expect(await (await answer).json()).toMatchObject({ stdout: 'whole' });
    await drained;
    expect(links[0]?.closed?.code).toBe(4503);
  });

  test('ends at its deadline with a code', async () => {
    const { bench, answer, execution } = await sisters(1, '/v1/execute', { timeout_ms: 60_000 });
    execution.begin();
    const drained = bench.gateway.drain(5_000);
    await bench.clock.advance(5_000);
    await drained;
    expect((await (await answer).json()) as object).toMatchObject({
      status: 502,
      code: 'draining',
      started: 'yes',
      retryable: false,
    });
  });

  test('of an agent voids its grants: nothing new goes there, what runs ends', async () => {
    const { bench, links, answer, execution } = await sisters(1);
    execution.begin();
    links[0]?.send('DRAIN', { deadline_ms: 10_000 });
    await bench.clock.settle();
    expect(await problemOf(await bench.ask('/v1/execute', { body: { code: '' } }))).toMatchObject({
      status: 503,
      code: 'no_agent',
    });
    links[0]?.grant(1);
    execution.out('end').exit();
    expect(await (await answer).json()).toMatchObject({ stdout: 'end' });
  });
});

describe('/v1/executions/{id}', () => {
  async function running(): Promise<Sisters> {
    const started = await sisters(1);
    started.execution.begin();
    await started.bench.clock.settle();
    return started;
  }

  test('tells how it is doing and how it ended', async () => {
    const { bench, links, execution } = await running();
    const path = `/v1/executions/${execution.id}`;
    const [agent] = links;
    agent?.records.set(execution.id, { state: 'started', record: { ...RECORD, started_at_ms_ago: 20 } });
    const now = bench.clock.wall() / 1000;
    expect(executionStatus.parse(await (await bench.ask(path)).json())).toEqual({
      execution_id: execution.id,
      cluster: 'lab',
      state: 'started',
      started_at: now - 0.02,
      ended_at: null,
      result: null,
      failure: null,
    });
    agent?.records.set(execution.id, {
      state: 'ended',
      record: {
        accepted_at_ms_ago: 30,
        started_at_ms_ago: 20,
        ended_at_ms_ago: 10,
        exit: { result: RESULT, failure: null },
      },
    });
    expect(executionStatus.parse(await (await bench.ask(path)).json())).toMatchObject({
      state: 'ended',
      ended_at: now - 0.01,
      result: { outcome: 'exited', exit_code: 0 },
    });
  });

  test('tells a failure by a code of the API, whatever its agent says', async () => {
    const { bench, links, execution } = await running();
    for (const [said, told] of [
      ['sandbox_lost', 'sandbox_lost'],
      ['unauthorized', 'runner_error'],
      ['of_a_later_version', 'runner_error'],
    ] as const) {
      const failure = { code: said, detail: 'It failed.', started: 'yes' as const };
      const exit = { result: null, failure };
      links[0]?.records.set(execution.id, {
        state: 'ended',
        record: { ...RECORD, ended_at_ms_ago: 0, exit },
      });
      const answer = await bench.ask(`/v1/executions/${execution.id}`);
      expect(await answer.json()).toMatchObject({ failure: { ...failure, code: told } });
    }
  });

  test('tells the same times in every answer, however long the answers take', async () => {
    const { bench, links, execution } = await running();
    const ask = async (accepted: number, started: number, ended: number | null) => {
      const ages = { accepted_at_ms_ago: accepted, started_at_ms_ago: started, ended_at_ms_ago: ended };
      links[0]?.records.set(execution.id, {
        state: ended === null ? 'started' : 'ended',
        record: { ...ages, exit: null },
      });
      return executionStatus.parse(await (await bench.ask(`/v1/executions/${execution.id}`)).json());
    };
    const now = bench.clock.wall() / 1_000;
    expect(await ask(30, 20, null)).toMatchObject({ started_at: now - 0.02, ended_at: null });
    await bench.clock.advance(1_013);
    expect(await ask(1_040, 1_030, 15)).toMatchObject({ started_at: now - 0.02, ended_at: now + 0.995 });
    await bench.clock.advance(500);
    expect(await ask(1_538, 1_528, 513)).toMatchObject({ started_at: now - 0.02, ended_at: now + 0.995 });
  });

  test('cancels', async () => {
    const { bench, links, execution } = await running();
    links[0]?.records.set(execution.id, { state: 'started', record: { ...RECORD, started_at_ms_ago: 20 } });
    const response = await bench.ask(`/v1/executions/${execution.id}`, { method: 'DELETE' });
    expect(response.status).toBe(200);
    expect(await links[0]?.seen('CANCEL')).toEqual({ reason: 'cancelled', execution_id: execution.id });
  });

  test('is the same 404 for garbage, another principal’s, another gateway’s and what the agent forgot', async () => {
    const { bench, links, execution } = await running();
    const foreign = await sisters(1);
    const other = await bench.key({ sub: 'bob' });
    const user = { 'podgate-user': 'someone' };
    links[0]?.records.set(execution.id, { state: 'started', record: RECORD });
    const answers = [
      await bench.ask('/v1/executions/garbage'),
      await bench.ask(`/v1/executions/${execution.id}x`),
      await bench.ask(`/v1/executions/${foreign.execution.id}`),
      await bench.ask(`/v1/executions/${execution.id}`, { key: other }),
      await bench.ask(`/v1/executions/${execution.id}`, { key: other, method: 'DELETE' }),
      await bench.ask(`/v1/executions/${execution.id}`, { headers: user }),
    ];
    links[0]?.records.delete(execution.id);
    answers.push(await bench.ask(`/v1/executions/${execution.id}`));
    for (const answer of answers)
      expect(await problemOf(answer)).toMatchObject({ status: 404, code: 'not_found', retryable: false });
  });

  test('is asked for over the sister of a link that goes meanwhile, and says so where there is none', async () => {
    const { bench, links, execution } = await sisters(2);
    const [first, second] = links as [MockAgent, MockAgent];
    execution.begin();
    for (const link of links) link.silent = true;
    const asked = bench.ask(`/v1/executions/${execution.id}`);
    const isAsked = (link: MockAgent) => link.received.some(({ name }) => name === 'STATUS');
    await until(() => links.some(isAsked));
    const [gone, left] = isAsked(first) ? [first, second] : [second, first];
    left.silent = false;
    left.records.set(execution.id, { state: 'started', record: RECORD });
    gone.cut();
    expect(await (await asked).json()).toMatchObject({ state: 'started' });
    left.silent = true;
    const again = bench.ask(`/v1/executions/${execution.id}`);
    await until(() => left.received.filter(({ name }) => name === 'STATUS').length > 1);
    left.cut();
    expect(await problemOf(await again)).toMatchObject({ status: 503, code: 'no_agent' });
  });

  test('without its agent says so, and without an answer does too', async () => {
    const { bench, links, execution } = await running();
    const path = `/v1/executions/${execution.id}`;
    if (links[0]) links[0].silent = true;
    const unanswered = bench.ask(path);
    await links[0]?.seen('STATUS');
    await bench.clock.advance(STATUS_TIMEOUT_MS);
    expect(await problemOf(await unanswered)).toMatchObject({ status: 502, code: 'agent_lost' });
    links[0]?.cut();
    expect(await problemOf(await bench.ask(path))).toMatchObject({ status: 503, code: 'no_agent' });
  });
});
