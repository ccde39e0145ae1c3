import { expect, test } from 'vitest';
import { COMEBACK_MS } from '../../gateway/clusters/instance.ts';
import { OPEN_TIMEOUT_MS } from '../../gateway/execution/sister-link.ts';
import { createGatewayBench, problemOf } from '../fakes/gateway-bench.ts';

/** A program that runs, whose stdin the agent has agreed to take. */
async function fed(options: { method: string; body?: string; revoked?: boolean }) {
  const bench = await createGatewayBench({ denyList: true });
  const agent = await bench.agent();
  await bench.clock.settle();
  void bench.ask('/v1/execute/stream', { body: { code: '', detach: true, timeout_ms: 60_000 } });
  const { id } = (await agent.next()).begin();
  const key = await bench.key({ jti: 'writer' });
  const answer = bench.ask(`/v1/executions/${id}/stdin`, { ...options, key });
  await agent.seen('INPUT');
  if (options.revoked) {
    bench.auth.documents.set('deny', 'writer');
    await bench.auth.authenticator.refresh();
  }
  const { stream = 0 } = agent.received.find(({ name }) => name === 'INPUT') ?? {};
  agent.peer.open(stream);
  agent.send('ACCEPT', { input: { taken: 0 } }, stream);
  if (!options.revoked) await agent.seen('END');
  return { bench, agent, answer, stream };
}

test('what an agent has taken is told, also of a body that is none', async () => {
  const { agent, answer, stream } = await fed({ method: 'POST' });
  agent.send('INPUT', { taken: 0, why: 'kept' }, stream);
  expect(await (await answer).json()).toEqual({ bytes: 0, open: true });
});

test.each([undefined, 'text'])(
  'an agent that goes and does not come back has or has not the body %j: nobody knows',
  async (body) => {
    const { bench, agent, answer } = await fed({ method: 'POST', ...(body && { body }) });
    agent.cut();
    await bench.clock.advance(COMEBACK_MS);
    expect(await problemOf(await answer)).toMatchObject({ code: 'agent_lost', started: 'unknown' });
  },
);

test('a key that is revoked before the agent agrees to take anything is refused', async () => {
  const { answer } = await fed({ method: 'POST', revoked: true });
  expect(await problemOf(await answer)).toMatchObject({ status: 401, code: 'unauthorized' });
});

test('an agent that does not say whether it takes input is given up, and nothing of the body is kept', async () => {
  const bench = await createGatewayBench();
  const agent = await bench.agent();
  await bench.clock.settle();
  void bench.ask('/v1/execute/stream', { body: { code: '', detach: true, timeout_ms: 60_000 } });
  const { id } = (await agent.next()).begin();
  await bench.clock.settle();
  const kept = bench.gateway.status().requestBytes;
  const answer = bench.ask(`/v1/executions/${id}/stdin`, { method: 'POST', body: 'text' });
  await agent.seen('INPUT');
  agent.peer.open(agent.received.find(({ name }) => name === 'INPUT')?.stream ?? 0);
  expect(bench.gateway.status().requestBytes).toBeGreaterThan(kept);
  await bench.clock.advance(OPEN_TIMEOUT_MS);
  expect(await problemOf(await answer)).toMatchObject({ status: 502, code: 'deadline_exceeded' });
  expect(bench.gateway.status().requestBytes).toBe(kept);
});

test('an agent that took input, and says nothing over its next link, is given up: nobody knows what it has', async () => {
  const { bench, agent, answer } = await fed({ method: 'POST', body: 'text' });
  const sister = await bench.agent({ identity: agent.options.identity });
  agent.cut();
  await sister.seen('INPUT');
  sister.peer.open(sister.received.find(({ name }) => name === 'INPUT')?.stream ?? 0);
  await bench.clock.advance(OPEN_TIMEOUT_MS);
  expect(await problemOf(await answer)).toMatchObject({ code: 'deadline_exceeded', started: 'unknown' });
});

test.for([
  ['not_found', { status: 409, code: 'conflict', detail: expect.stringMatching(/nobody knows how much/) }],
  ['conflict', { status: 409, code: 'conflict', detail: expect.stringMatching(/nobody knows how much/) }],
  ['draining', { status: 502, code: 'agent_lost', started: 'unknown' }],
] as const)(
  'an agent that took input, and is at an end with its program over its next link (%s), may have had all of it',
  async ([code, told]) => {
    const { bench, agent, answer } = await fed({ method: 'POST', body: 'text' });
    const sister = await bench.agent({ identity: agent.options.identity });
    agent.cut();
    await sister.seen('INPUT');
    const { stream = 0 } = sister.received.find(({ name }) => name === 'INPUT') ?? {};
    sister.peer.open(stream);
    sister.send('NACK', { code, detail: 'The program has ended.', retry_after_ms: null }, stream);
    expect(await problemOf(await answer)).toMatchObject({ ...told, retryable: false });
  },
);

test('a body that finds no room at all is refused at once: it may come again', async () => {
  const bench = await createGatewayBench();
  const agent = await bench.agent();
  await bench.clock.settle();
  void bench.ask('/v1/execute/stream', { body: { code: '', detach: true, timeout_ms: 60_000 } });
  const { id } = (await agent.next()).begin();
  const answer = bench.ask(`/v1/executions/${id}/stdin`, { method: 'POST', body: 'text' });
  await agent.seen('INPUT');
  const { stream = 0 } = agent.received.find(({ name }) => name === 'INPUT') ?? {};
  agent.peer.open(stream);
  agent.send('NACK', { code: 'rate_limited', detail: 'Enough.', retry_after_ms: 1_000 }, stream);
  expect(await problemOf(await answer)).toMatchObject({ status: 429, code: 'rate_limited', retryable: true });
});

test('a body that has begun waits where its next link finds no room, and is not asked for from its first byte again', async () => {
  const { bench, agent, answer } = await fed({ method: 'POST', body: 'text' });
  const sister = await bench.agent({ identity: agent.options.identity });
  agent.cut();
  const streams = () => sister.received.filter(({ name }) => name === 'INPUT').map(({ stream }) => stream);
  await sister.seen('INPUT');
  const [full = 0] = streams();
  sister.peer.open(full);
  sister.send('NACK', { code: 'rate_limited', detail: 'Enough.', retry_after_ms: 300 }, full);
  await bench.clock.settle();
  await bench.clock.advance(299);
  expect(streams()).toHaveLength(1);
  await bench.clock.advance(1);
  await bench.clock.settle();
  const again = streams()[1] ?? 0;
  sister.peer.open(again);
  sister.send('ACCEPT', { input: { taken: 3 } }, again);
  await sister.seen('END');
  sister.send('INPUT', { taken: 4, why: 'kept' }, again);
  expect(await (await answer).json()).toEqual({ bytes: 4, open: true });
});
