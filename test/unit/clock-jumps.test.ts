import { describe, expect, test } from 'vitest';
import { REFUSED_FOR_MS } from '../../gateway/auth/verdict-cache.ts';
import { LOOK_MS } from '../../gateway/auth/watch-key.ts';
import { ANSWER_GRACE_MS, DEAD_MS, HEARTBEAT_MS } from '../../shared/limits.ts';
import { createGatewayBench, type GatewayBench } from '../fakes/gateway-bench.ts';
import { until } from '../fakes/until.ts';

const HOUR_MS = 3_600_000;
const JUMPS = [
  ['forward by an hour', HOUR_MS],
  ['back by an hour', -HOUR_MS],
] as const;

/** Tokens that end within a jump end with it. */
const aDayFrom = ({ clock }: GatewayBench) => Math.floor(clock.wall() / 1_000) + 86_400;

/** What a gateway does while the clock of its machine is set: what is measured goes on, only keys go by the time of day. */
describe.for(JUMPS)('A clock that is set %s', ([, jumpMs]) => {
  test('costs no link that is heard, and saves none that is silent', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ claims: { exp: aDayFrom(bench) } });
    await bench.clock.advance(HEARTBEAT_MS);
    bench.clock.jump(jumpMs);
    for (let beat = 0; beat < 6; beat += 1) await bench.clock.advance(HEARTBEAT_MS);
    expect(agent.closed).toBeUndefined();
    agent.silent = true;
    bench.clock.jump(jumpMs);
    await bench.clock.advance(DEAD_MS + HEARTBEAT_MS);
    expect(agent.closed).toBeDefined();
  });

  test('neither shortens nor prolongs the wait for a slot', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ claims: { exp: aDayFrom(bench) }, slots: 1, refill: false });
    await bench.clock.settle();
    let status: number | undefined;
    const answer = bench
      .ask('/v1/execute', { body: { code: 'x', queue_timeout_ms: 5_000 } })
      .then((response) => {
        status = response.status;
      });
    const taken = await agent.next();
    bench.clock.jump(jumpMs);
    taken.nack('at_capacity');
    await until(() => bench.gateway.status().queued === 1);
    await bench.clock.advance(4_999);
    expect(status).toBeUndefined();
    agent.grant(1);
    // The agent is told how long it may wait for a sandbox.
    const again = await agent.next();
    expect(again.start.accept_within_ms).toBe(1);
    await bench.clock.advance(1);
    again.nack('at_capacity');
    await answer;
    expect(status).toBe(503);
  });

  test('neither shortens nor prolongs the time that an answer may take', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ claims: { exp: aDayFrom(bench) } });
    await bench.clock.settle();
    const key = await bench.key({ exp: aDayFrom(bench) });
    const body = { code: 'x', timeout_ms: 2_000, queue_timeout_ms: 1_000 };
    let code: string | undefined;
    const answer = bench.ask('/v1/execute', { body, key }).then(async (response) => {
      code = ((await response.json()) as { code: string }).code;
    });
    (await agent.next()).begin();
    bench.clock.jump(jumpMs);
    await bench.clock.advance(3_000 + ANSWER_GRACE_MS - 1);
    expect(code).toBeUndefined();
    await bench.clock.advance(1);
    await answer;
    expect(code).toBe('deadline_exceeded');
  });

  test('is no minute of a key’s requests', async () => {
    const bench = await createGatewayBench();
    await bench.agent({ claims: { exp: aDayFrom(bench) }, run: (run) => run.succeed('1') });
    await bench.clock.settle();
    const key = await bench.key({
      exp: aDayFrom(bench),
      limits: { requests_per_minute: 1 },
    });
    const ask = async () => (await bench.ask('/v1/execute', { body: { code: 'x' }, key })).status;
    expect(await ask()).toBe(200);
    bench.clock.jump(jumpMs);
    expect(await ask()).toBe(429);
    await bench.clock.advance(62_000);
    expect(await ask()).toBe(200);
  });

  test('lets an Idempotency-Key stand for what it stood for, and no longer', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ claims: { exp: aDayFrom(bench) }, run: (run) => run.succeed('1') });
    await bench.clock.settle();
    const key = await bench.key({ exp: aDayFrom(bench) });
    const headers = { 'idempotency-key': 'once' };
    const ask = () => bench.ask('/v1/execute', { body: { code: 'x' }, key, headers });
    expect((await ask()).status).toBe(200);
    bench.clock.jump(jumpMs);
    // It is found: another request may not have it.
    const other = await bench.ask('/v1/execute', { body: { code: 'y' }, key, headers });
    expect(other.status).toBe(409);
    const starts = () => agent.received.filter(({ name }) => name === 'START').length;
    expect(starts()).toBe(1);
  });
});

test('a key that a wrong clock called ended is good again as soon as the clock is right', async () => {
  const bench = await createGatewayBench();
  await bench.agent({ claims: { exp: aDayFrom(bench) }, run: (run) => run.succeed('1') });
  await bench.clock.settle();
  const key = await bench.key({ exp: Math.floor(bench.clock.wall() / 1_000) + 600 });
  const ask = async () => (await bench.ask('/v1/execute', { body: { code: 'x' }, key })).status;
  bench.clock.jump(HOUR_MS);
  expect(await ask()).toBe(401);
  bench.clock.jump(-HOUR_MS);
  await bench.clock.advance(REFUSED_FOR_MS);
  expect(await ask()).toBe(200);
});

test('a clock that is set forward past the end of a key ends what runs with it, LOOK_MS later at most', async () => {
  const bench = await createGatewayBench();
  const agent = await bench.agent({ claims: { exp: aDayFrom(bench) } });
  await bench.clock.settle();
  const key = await bench.key({ exp: Math.floor(bench.clock.wall() / 1_000) + 1_800 });
  const answer = bench.ask('/v1/execute', { body: { code: 'x', timeout_ms: 60_000 }, key });
  const execution = (await agent.next()).begin();
  await bench.clock.settle();
  bench.clock.jump(HOUR_MS);
  await bench.clock.advance(LOOK_MS);
  expect(execution.cancelled).toBe('unauthorized');
  expect((await answer).status).toBe(401);
});
