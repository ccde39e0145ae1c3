import { afterEach, describe, expect, test } from 'vitest';
import { Failure } from '../../shared/errors.ts';
import { createFakeBackend } from '../fakes/fake-backend.ts';
import { createMockGateway } from '../fakes/mock-gateway.ts';
import { startTestAgent, type TestAgentOptions } from '../fakes/test-agent.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: TestAgentOptions = {}) {
  const mock = await createMockGateway();
  cleanups.push(() => mock.close());
  const test = await startTestAgent(mock, { http: { host: '127.0.0.1', port: 0 }, ...options });
  cleanups.push(() => test.agent.close());
  const get = async (path: string, init?: RequestInit) => {
    const response = await fetch(`http://127.0.0.1:${test.agent.httpPort}${path}`, init);
    return { status: response.status, text: await response.text(), headers: response.headers };
  };
  return { mock, ...test, get };
}

describe("the agent's HTTP port", () => {
  test('says that it lives, and what keeps it from being ready', async () => {
    const { mock, get, agent } = await start();
    expect(await get('/livez')).toMatchObject({ status: 200, text: 'ok\n' });
    const link = await mock.nextLink();
    await link.next('SLOTS');
    expect(await get('/readyz')).toMatchObject({ status: 200 });
    mock.options = { refuse: 503 };
    for (const one of mock.links) one.socket.terminate();
    while (agent.status().links.some(({ phase }) => phase === 'joined'))
      await new Promise((resolve) => setTimeout(resolve, 2));
    expect(await get('/readyz')).toMatchObject({ status: 503, text: 'No gateway is connected.\n' });
    expect((await get('/livez')).status).toBe(200);
  });

  test.for([
    [0, 503, 'unavailable'],
    [1, 200, 'degraded'],
  ] as const)(
    'with %i sandboxes and no more to come is %i, its cluster %s',
    async ([made, status, state]) => {
      const backend = createFakeBackend();
      const full = new Failure('quota_exceeded', 'No more.');
      if (made === 0) backend.failure = full;
      backend.onRunner = () => {
        backend.failure = full;
      };
      const { mock, get, line } = await start({ backend });
      await line('pool_trouble');
      const link = await mock.nextLink();
      await link.next('SLOTS', ({ clusters }) => clusters?.[0]?.state === state);
      expect((await get('/readyz')).status).toBe(status);
    },
  );

  test('counts executions, sandboxes and links for Prometheus', async () => {
    const { mock, get } = await start();
    const link = await mock.nextLink();
    await link.next('SLOTS', ({ grants }) => grants.length > 0);
    const stream = link.start();
    await link.next('EXIT', (_body, on) => on === stream);
    link.start({ template: 'a template that nobody has', cluster: 'nor-this' });
    await link.next('NACK');
    const { text, headers } = await get('/metrics');
    expect(headers.get('content-type')).toContain('text/plain');
    expect(text).toContain(
      'podgate_agent_executions_total{cluster="here",template="default",outcome="exited"} 1',
    );
    expect(text).toContain('podgate_agent_executions_total{cluster="",template="",outcome="no_cluster"} 1');
    expect(text).toMatch(/podgate_agent_sandboxes\{cluster="here",template="default",state="idle"\} [234]/);
    expect(text).toContain('podgate_agent_links{phase="joined"} ');
    expect(text).toContain(
      'podgate_agent_phase_seconds_count{cluster="here",template="default",phase="run"} 1',
    );
    expect(text).not.toContain('nobody has');
  });

  test('changes nothing and serves nothing else', async () => {
    const { get } = await start();
    expect((await get('/')).status).toBe(404);
    expect((await get('/metrics', { method: 'POST' })).status).toBe(405);
  });

  test('that is taken stops the start with the address', async () => {
    const { mock, agent } = await start();
    const again = startTestAgent(mock, { http: { host: '127.0.0.1', port: agent.httpPort as number } });
    await expect(again).rejects.toMatchObject({
      detail: expect.stringMatching(/127\.0\.0\.1:\d+ \(EADDRINUSE\)/),
    });
  });
});

describe("an execution's line in the log", () => {
  test('has its phases and codes, and neither code nor output', async () => {
    const { mock, line, logged } = await start();
    const link = await mock.nextLink();
    await link.next('SLOTS', ({ grants }) => grants.length > 0);
    const stream = link.start({ request_id: 'req-7' }, { code: 'print("a secret of the program")' });
    await link.next('EXIT', (_body, on) => on === stream);
    expect(await line('execution')).toMatchObject({
      request_id: 'req-7',
      cluster: 'here',
      template: 'default',
      outcome: 'exited',
      started: 'yes',
      sandbox_settled: 'returned',
      accept_ms: expect.any(Number),
      start_ms: expect.any(Number),
      run_ms: expect.any(Number),
      reset_ms: expect.any(Number),
    });
    expect(JSON.stringify(logged)).not.toContain('secret of the program');
    expect(JSON.stringify(logged)).not.toContain('podgate_agent_ey');
  });
});
