import { describe, expect, test } from 'vitest';
import { MAX_ATTEMPTS, MAX_SESSION_TTL_SECONDS } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import { digestPrincipal } from '../../shared/principal.ts';
import { createGatewayBench, problemOf } from '../fakes/gateway-bench.ts';

const QUEUE_MS = 5_000;

/** A session at an agent whose links a test cuts, and work in it. */
async function start() {
  const bench = await createGatewayBench();
  const identity = await bench.identity();
  const agent = await bench.agent({ identity });
  await bench.clock.settle();
  const principalDigest = await digestPrincipal('acme/alice');
  const at = { tenant: 'acme', principalDigest, cluster: 'lab', instance: agent.instance };
  const seal = () => bench.deps.ids.seal({ kind: 's', ...at, template: 'default' });
  return { bench, identity, agent, seal, path: `/v1/sessions/${await seal()}` };
}

describe('work in a session whose link is lost before it began', () => {
  test('is 503 no_agent where its request had a body: what came of that is lost, and nothing was written', async () => {
    const { bench, identity, agent, path } = await start();
    const upload = { method: 'PUT', body: 'content', headers: { 'content-length': '7' } };
    const answer = bench.ask(`${path}/files?path=file`, upload);
    await agent.next();
    agent.cut();
    const back = await bench.agent({ identity });
    const problem = await problemOf(await answer);
    expect(problem).toMatchObject({ status: 503, code: 'no_agent', retryable: true });
    await bench.clock.settle();
    expect(back.executions.map(({ cancelled }) => cancelled)).toEqual(['no_agent']);
  });

  test('and again behind the queue timeout, is 503 no_agent then and not at its deadline', async () => {
    const { bench, identity, agent, path } = await start();
    const answer = bench.ask(`${path}/files?path=file`);
    await agent.next();
    agent.cut();
    await bench.clock.advance(QUEUE_MS);
    const back = await bench.agent({ identity });
    await back.seen('STATUS');
    back.cut();
    const problem = await problemOf(await answer);
    expect(problem).toMatchObject({ status: 503, code: 'no_agent', retryable: true });
  });
});

describe('work in a session whose agent takes none', () => {
  const NONE = 'The agent that has this session takes no work now.';

  test('is told so once it was offered often enough, and not that the agent is away', async () => {
    const { bench, agent, path } = await start();
    const answer = bench.ask(`${path}/files?path=file`);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) (await agent.next()).nack('draining');
    const problem = await problemOf(await answer);
    expect(problem).toMatchObject({ status: 503, code: 'no_agent', retryable: true, detail: NONE });
  });
});

test('a request about a session holds none of its memory once it is answered, however it is', async () => {
  const { bench, agent, path } = await start();
  const held = () => bench.gateway.status().requestBytes;
  for (const [asked, body, status, headers = {}] of [
    ['/v1/sessions', { cluster: 'none' }, 404],
    ['/v1/sessions', { ttl_seconds: 0 }, 422],
    ['/v1/sessions', '{', 422],
    ['/v1/sessions/none/bash', { cmd: 'id' }, 404],
    ['/v1/sessions/none/bash', { cmd: 'id' }, 404, { 'idempotency-key': 'k' }],
    ['/v1/sessions/none/extend', { ttl_seconds: 60 }, 404],
    ['/v1/sessions/none/files/mkdir', { path: 'a' }, 404],
  ] as const) {
    const answer = await bench.ask(asked, { method: 'POST', body, headers });
    expect([asked, answer.status, held()]).toEqual([asked, status, 0]);
  }
  const keyed = { method: 'POST', body: { cmd: 'id' }, headers: { 'idempotency-key': 'k' } };
  const first = bench.ask(`${path}/bash`, keyed);
  const execution = await agent.next();
  execution.begin();
  await bench.clock.settle();
  const before = held();
  const repeat = bench.ask(`${path}/bash`, keyed);
  const repeated = await agent.attached(execution);
  expect(held()).toBe(before);
  execution.exit();
  repeated.resume().exit();
  expect([(await first).status, (await repeat).status]).toEqual([200, 200]);
  expect(held()).toBe(0);
});

test('a session of somebody else is 404 before its agent is asked: another subject, end user, tenant', async () => {
  const tenants = await createGatewayBench({ tenantClaim: 'org' });
  const agent = await tenants.agent();
  const foreign = await tenants.agent({ claims: { org: 'other' }, instance: 'instance-2' });
  await tenants.clock.settle();
  const at = { tenant: 'acme', cluster: 'lab', instance: agent.instance, template: 'default' };
  const principalDigest = await digestPrincipal('acme/alice');
  const id = await tenants.deps.ids.seal({ kind: 's', ...at, principalDigest });
  const own = await tenants.key();
  const others = [
    { key: await tenants.key({ sub: 'bob' }) },
    { key: own, headers: { 'podgate-user': 'alice' } },
    { key: await tenants.key({ org: 'other' }) },
  ];
  for (const [method, asked, body] of [
    ['GET', '', undefined],
    ['DELETE', '', undefined],
    ['POST', '/extend', { ttl_seconds: 60 }],
    ['POST', '/bash', { cmd: 'id' }],
    ['POST', '/execute', { code: '1' }],
    ['POST', '/contexts/main/restart', undefined],
    ['GET', '/files?path=a', undefined],
    ['GET', '/files/list', undefined],
    ['GET', '/tree', undefined],
    ['GET', '/terminals/t', undefined],
    ['DELETE', '/terminals/t', undefined],
  ] as const)
    for (const other of others) {
      const answer = await tenants.ask(`/v1/sessions/${id}${asked}`, {
        method,
        ...(body && { body }),
        ...other,
      });
      expect([method, asked, answer.status]).toEqual([method, asked, 404]);
    }
  for (const { executions, received } of [agent, foreign])
    expect([executions, received.filter(({ name }) => name === 'SESSION')]).toEqual([[], []]);
  const answer = tenants.ask(`/v1/sessions/${id}/bash`, { key: own, body: { cmd: 'id' } });
  (await agent.next()).succeed();
  expect((await answer).status).toBe(200);
});

test('one Idempotency-Key in two sessions is a conflict, and runs in the first alone', async () => {
  const { bench, agent, path, seal } = await start();
  const keyed = { method: 'POST', body: { cmd: 'id' }, headers: { 'idempotency-key': 'k' } };
  const first = bench.ask(`${path}/bash`, keyed);
  const execution = await agent.next();
  const problem = await problemOf(await bench.ask(`/v1/sessions/${await seal()}/bash`, keyed));
  expect(problem).toMatchObject({ status: 409, code: 'conflict' });
  execution.succeed();
  expect((await first).status).toBe(200);
  expect(agent.executions).toEqual([]);
});

test.each(['created_ms_ago', 'expires_in_ms', 'idle_ms'])(
  'an agent that tells of a session with %s beyond the longest life breaks the protocol, and hides nobody else’s sessions',
  async (time) => {
    const { bench, agent } = await start();
    const life = MAX_SESSION_TTL_SECONDS * 1_000;
    const state = { session_id: 's', cluster: 'lab', template: 'default', running: 0 };
    const times = { created_ms_ago: 0, expires_in_ms: life, idle_ms: life };
    const answer = async (sessions: FromAgent['SESSION']['sessions']) => {
      agent.received.length = 0;
      const listed = bench.ask('/v1/sessions');
      const { ref } = await agent.seen('SESSION');
      agent.send('SESSION', { ref, sessions, total: sessions.length });
      return (await (await listed).json()) as { sessions: object[] };
    };
    expect((await answer([{ ...state, ...times }])).sessions).toHaveLength(1);
    expect(agent.closed).toBeUndefined();
    expect(await answer([{ ...state, ...times, [time]: life + 1 }])).toMatchObject({ sessions: [] });
    expect(agent.closed).toMatchObject({ reason: 'protocol_error' });
  },
);

describe('an answer about files of a session', () => {
  test('that is a refusal leaves nothing behind it: no memory, nothing that a drain waits for, no work of its session', async () => {
    const { bench, agent, path } = await start();
    const answer = bench.ask(`${path}/files?path=file`);
    const execution = await agent.next();
    execution.begin().out('{"error":{"code":"not_found","detail":""}}\n');
    await bench.clock.settle();
    execution.exit();
    expect((await problemOf(await answer)).status).toBe(404);
    expect(bench.gateway.status()).toMatchObject({ running: 0, outputBytes: 0 });
  });

  test.each([
    ['GET', 'files?path=a', { start: 0, end: 4, size: 3 }],
    ['GET', 'files/stat', { name: 'a', type: 'socket', size: 1, mode: 1, modified_at: 1 }],
    ['GET', 'files/list', { entries: 1, more: true }],
    ['GET', 'files/list', { entries: [{ name: 1 }], more: false }],
    ['PUT', 'files?path=a', {}],
    ['POST', 'files/mkdir', { name: 'a' }],
    ['PUT', 'tree', { entries: 'many' }],
  ])(
    'that is none, to %s %s, is 502 sandbox_lost, and nothing of it goes on: %j',
    async (method, asked, ok) => {
      const { bench, agent, path } = await start();
      const body = { POST: { path: 'a' }, PUT: '', GET: undefined }[method];
      const headers = method === 'PUT' ? { 'content-length': '0' } : {};
      const answer = bench.ask(`${path}/${asked}`, { method, headers, ...(body !== undefined && { body }) });
      const execution = await agent.next();
      execution.begin().out(`${JSON.stringify({ ok })}\n`);
      await bench.clock.settle();
      execution.exit();
      expect(await problemOf(await answer)).toMatchObject({ status: 502, code: 'sandbox_lost' });
      expect(bench.gateway.status()).toMatchObject({ running: 0, outputBytes: 0 });
    },
  );

  test.each(['files?path=a', 'tree'])(
    'has no body to HEAD, and waits for nobody to take one: %s',
    async (asked) => {
      const { bench, agent, path } = await start();
      const answer = bench.ask(`${path}/${asked}`, { method: 'HEAD' });
      const execution = await agent.next();
      execution.begin().out('{"ok":{"start":0,"end":3,"size":3}}\n');
      expect([(await answer).status, await (await answer).text()]).toEqual([200, '']);
      await bench.clock.settle();
      expect(execution.cancelled).toBe('cancelled');
    },
  );

  test.each([
    ['a runner of an earlier version', {}, 'b'],
    ['one that says where its page ends', { next: 'gone' }, 'gone'],
  ])('of a folder goes on behind the last entry of %s', async (_who, said, cursor) => {
    const { bench, agent, path } = await start();
    const answer = bench.ask(`${path}/files/list`);
    const execution = await agent.next();
    const entries = ['a', 'b'].map((name) => ({ name, type: 'file', size: 1, mode: 420, modified_at: 1.5 }));
    execution.begin().out(`${JSON.stringify({ ok: { entries, more: true, ...said } })}\n`);
    await bench.clock.settle();
    execution.exit();
    expect(await (await answer).json()).toEqual({ entries, next_cursor: cursor });
  });

  test('has what its schema has, and nothing beside it', async () => {
    const { bench, agent, path } = await start();
    const answer = bench.ask(`${path}/files/stat`);
    const execution = await agent.next();
    const entry = { name: 'a', type: 'file', size: 1, mode: 420, modified_at: 1.5 };
    execution.begin().out(`${JSON.stringify({ ok: { ...entry, session_id: 'x' } })}\n`);
    await bench.clock.settle();
    execution.exit();
    expect(await (await answer).json()).toEqual(entry);
  });

  test('is whole once its session is free of it: whoever asks for the next of eight is not told that eight are under way', async () => {
    const { bench, agent, path } = await start();
    const answer = bench.ask(`${path}/files?path=file`);
    const execution = await agent.next();
    execution.begin().out('{"ok":{"start":0,"end":3,"size":3}}\nabc');
    const reader = (await answer).body?.getReader();
    let isWhole = false;
    const last = reader?.read().then(({ value }) => {
      isWhole = true;
      return new TextDecoder().decode(value);
    });
    await bench.clock.settle();
    expect(isWhole).toBe(false);
    execution.exit();
    expect(await last).toBe('abc');
    expect(bench.gateway.status()).toMatchObject({ running: 0, outputBytes: 0 });
  });
});
