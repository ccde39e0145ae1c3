import { expect, test } from 'vitest';
import { ClusterDirectory } from '../../gateway/clusters/cluster-directory.ts';
import { NO_AGENT_RETRY_MS } from '../../gateway/clusters/placement.ts';
import type { Ids } from '../../gateway/gateway-deps.ts';
import type { KeyedContext, KeyedRoute } from '../../gateway/http/route.ts';
import { createSessionTerminalRoutes } from '../../gateway/routes/session-terminals.ts';
import type { SessionBook } from '../../gateway/sessions/session-book.ts';
import type { SessionAsk } from '../../shared/session-messages.ts';
import { createGatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import type { MockAgent } from '../fakes/mock-agent.ts';
import { until } from '../fakes/until.ts';

const STATE = {
  cluster: 'lab',
  template: 'default',
  created_ms_ago: 0,
  expires_in_ms: 60_000,
  idle_ms: null,
  running: 0,
};

const asksOf = ({ received }: MockAgent) =>
  received.filter(({ name }) => name === 'SESSION').map(({ body }) => body as SessionAsk);

async function answer(agent: MockAgent, asks: number, isThere: boolean): Promise<SessionAsk> {
  await until(() => asksOf(agent).length === asks);
  const ask = asksOf(agent).at(-1) as SessionAsk;
  const sessions = isThere ? [{ ...STATE, session_id: ask.session_id ?? '' }] : [];
  agent.send('SESSION', { ref: ask.ref, sessions, total: sessions.length });
  return ask;
}

/** A gateway, an agent, and a session that alice of acme has at it. */
async function open() {
  const bench = await createGatewayBench({ tenantClaim: 'org' });
  const [key, identity] = [await bench.key({ org: 'acme' }), await bench.identity()];
  const linked = () => bench.agent({ identity, claims: { org: 'acme' } });
  const agent = await linked();
  await bench.clock.settle();
  const opening = bench.ask('/v1/sessions', { key, body: {} });
  (await agent.next()).succeed();
  const { session_id } = await answer(agent, 1, true);
  expect((await opening).status).toBe(201);
  return { bench, agent, linked, key, path: `/v1/sessions/${session_id}` };
}

test.for([
  ['another principal', { sub: 'bob' }, '', {}],
  ['an end user of its principal', {}, '', { 'Podgate-User': 'carol' }],
  ['the same principal of another tenant', { org: 'globex' }, '', {}],
  ['a key that may not use its template', { templates: ['other'] }, '', {}],
  ['a key that may not use its cluster', { clusters: ['other'] }, '', {}],
  ['a request for another cluster', {}, '/clusters/other', {}],
] as const)(
  'a session is none to %s, and its agent is asked nothing',
  async ([, claims, prefix, headers]) => {
    const { bench, agent, path } = await open();
    const key = await bench.key({ org: 'acme', ...claims });
    const before = agent.received.length;
    for (const [method, rest, body] of [
      ['GET', '', undefined],
      ['DELETE', '', undefined],
      ['POST', '/extend', { ttl_seconds: 60 }],
      ['POST', '/bash', { cmd: 'id' }],
      ['POST', '/execute', { code: '1' }],
      ['GET', '/files?path=a', undefined],
      ['DELETE', '/terminals/main', undefined],
    ] as const) {
      const response = await bench.ask(prefix + path + rest, { method, headers, key, ...(body && { body }) });
      expect(await problemOf(response)).toMatchObject({ status: 404, code: 'not_found' });
    }
    expect(agent.received.length).toBe(before);
  },
);

test('a session that is not there is not ended; one whose link goes with the answer is, by its sister', async () => {
  const { bench, agent, linked, key, path } = await open();
  const missing = bench.ask(path, { method: 'DELETE', key });
  await answer(agent, 2, false);
  expect((await missing).status).toBe(404);
  const sister = await linked();
  await bench.clock.settle();
  const ending = bench.ask(path, { method: 'DELETE', key });
  await until(() => asksOf(agent).length + asksOf(sister).length === 3);
  const [asked, other] = asksOf(sister).length === 0 ? [agent, sister] : [sister, agent];
  const before = asksOf(other).length;
  asked.cut();
  await answer(other, before + 1, false);
  expect((await ending).status).toBe(204);
});

test('a terminal whose agent goes before it is told to end it is 503 no_agent: nothing was sent', async () => {
  const none = { now: () => 0, elapsed: () => 0, maxLinksPerTenant: 1, onFreed() {} };
  const directory = new ClusterDirectory(none);
  const place = { id: 's', cluster: 'lab', instance: 'gone', template: 'default' };
  const book = {
    find: async () => place,
    terminals: async () => [{ name: 'main', execution_id: 'x' }],
  } as Partial<SessionBook> as SessionBook;
  const routes = createSessionTerminalRoutes({ ids: {} as Ids, directory }, book);
  const end = routes.find(({ method }) => method === 'DELETE') as KeyedRoute;
  const asked = { params: { id: 's', name: 'main' }, caller: { tenant: 'acme' }, pathCluster: null };
  await expect(end.handle(asked as unknown as KeyedContext)).rejects.toMatchObject({
    code: 'no_agent',
    started: 'no',
    retryAfterMs: NO_AGENT_RETRY_MS,
  });
});

test('a terminal whose link goes while it is ended is ended by its sister', async () => {
  const { bench, agent, linked, key, path } = await open();
  const ending = bench.ask(`${path}/terminals/main`, { method: 'DELETE', key });
  await until(() => asksOf(agent).length === 2);
  const { ref, session_id } = asksOf(agent).at(-1) as SessionAsk;
  const terminals = [{ name: 'main', execution_id: 'x' }];
  agent.silent = true;
  agent.send('SESSION', { ref, sessions: [{ ...STATE, session_id: session_id ?? '', terminals }], total: 1 });
  await agent.seen('CANCEL');
  const sister = await linked();
  agent.cut();
  await sister.seen('CANCEL');
  expect((await ending).status).toBe(204);
});
