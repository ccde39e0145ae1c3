import { describe, expect, test } from 'vitest';
import {
  MAX_REQUEST_BYTES,
  MAX_REQUESTS_IN_FLIGHT_BYTES,
  STREAM_WINDOW_BYTES,
  TENANT_SHARE,
} from '../../shared/limits.ts';
import type { FromGateway } from '../../shared/messages.ts';
import { createGatewayBench, type GatewayBenchOptions, problemOf } from '../fakes/gateway-bench.ts';
import type { MockAgentOptions } from '../fakes/mock-agent.ts';
import { until } from '../fakes/until.ts';

const A = { code: '' };
/** `sub`, `jti`, cluster, template and instance are the same in both: nothing but the tenant tells them apart. */
const TENANTS = ['acme', 'globex'] as const;
type Tenant = (typeof TENANTS)[number];

/** A gateway whose callers and agents are of the tenant that their claim `org` names. */
async function twoTenants(options: GatewayBenchOptions = {}) {
  const bench = await createGatewayBench({ ...options, tenantClaim: 'org' });
  const keys = { acme: await bench.key({ org: 'acme' }), globex: await bench.key({ org: 'globex' }) };
  return {
    ...bench,
    as: (tenant: Tenant, path: string, given: Parameters<typeof bench.ask>[1] = {}) =>
      bench.ask(path, { ...given, key: keys[tenant] }),
    agentOf: (tenant: Tenant, given: Partial<MockAgentOptions> = {}) =>
      bench.agent({ ...given, claims: { org: tenant } }),
  };
}

describe('of two tenants', () => {
  test('each runs its executions at its own agents, though all have the same names', async () => {
    const bench = await twoTenants();
    const agents = {
      acme: await bench.agentOf('acme', { run: (execution) => execution.succeed() }),
      globex: await bench.agentOf('globex', { run: (execution) => execution.succeed() }),
    };
    await bench.clock.settle();
    for (const tenant of TENANTS) {
      const other = agents[tenant === 'acme' ? 'globex' : 'acme'];
      const before = other.received.length;
      for (const cluster of [undefined, 'lab'])
        expect((await bench.as(tenant, '/v1/execute', { body: { ...A, cluster } })).status).toBe(200);
      const starts = agents[tenant].received.filter(({ name }) => name === 'START');
      expect(starts.map(({ body }) => (body as FromGateway['START']).principal)).toEqual([
        `${tenant}/alice`,
        `${tenant}/alice`,
      ]);
      expect(other.received.length).toBe(before);
    }
  });

  test('one finds no agent, no cluster and no session of the other’s', async () => {
    const bench = await twoTenants();
    const agent = await bench.agentOf('acme');
    await bench.clock.settle();
    const before = agent.received.length;
    for (const body of [A, { ...A, cluster: 'lab' }])
      expect(await problemOf(await bench.as('globex', '/v1/execute', { body }))).toMatchObject({
        status: 503,
        code: 'no_agent',
      });
    expect(await (await bench.as('globex', '/v1/clusters')).json()).toMatchObject({ clusters: [] });
    expect(await (await bench.as('globex', '/v1/sessions')).json()).toMatchObject({ sessions: [] });
    expect(await (await bench.as('acme', '/v1/clusters')).json()).toMatchObject({
      clusters: [{ name: 'lab' }],
    });
    expect(agent.received.length).toBe(before);
  });

  test.for([
    ['acme', 'globex'],
    ['globex', 'acme'],
  ] as const)('what waits for a slot of %s takes none of the other’s', async ([tenant, stranger]) => {
    const bench = await twoTenants();
    const own = await bench.agentOf(tenant, { slots: 0 });
    await bench.agentOf(stranger, { slots: 0 });
    await bench.clock.settle();
    const waiting = bench.as(tenant, '/v1/execute', { body: A });
    await bench.clock.settle();
    const other = await bench.agentOf(stranger, { instance: 'instance-2', slots: 4 });
    await bench.clock.settle();
    expect(other.executions).toEqual([]);
    own.grant(1);
    (await own.next()).succeed();
    expect((await waiting).status).toBe(200);
  });

  test('one asks in vain for what the other runs, by its id, its Idempotency-Key or the id of its file', async () => {
    const bench = await twoTenants();
    const agents = { acme: await bench.agentOf('acme'), globex: await bench.agentOf('globex') };
    await bench.clock.settle();
    const headers = { 'Idempotency-Key': 'once' };
    const first = bench.as('acme', '/v1/execute', { headers, body: A });
    const execution = await agents.acme.next();
    for (const path of [execution.id, `${execution.id}/events`])
      expect((await bench.as('globex', `/v1/executions/${path}`)).status).toBe(404);
    expect((await bench.as('globex', `/v1/executions/${execution.id}`, { method: 'DELETE' })).status).toBe(
      404,
    );
    const second = bench.as('globex', '/v1/execute', { headers, body: A });
    const another = await agents.globex.next();
    expect(another.start.key).not.toBe(execution.start.key);
    // Both agents have one name: each is asked of its own tenant's executions alone.
    await bench.as('globex', `/v1/executions/${another.id}`);
    const asked = TENANTS.map((tenant) => agents[tenant].received.filter(({ name }) => name === 'STATUS'));
    expect(asked.map(({ length }) => length)).toEqual([0, 1]);
    execution.succeed();
    another.succeed();
    const ids = await Promise.all(
      [first, second].map(async (answer) => (await answer).headers.get('podgate-execution-id')),
    );
    expect(ids).toEqual([execution.id, another.id]);

    const writer = await bench.files.create('acme/alice', {
      ceilings: { file_bytes: null, file_count: null },
    });
    const { file_id } = await writer.commit({ filename: 'a.txt' });
    expect((await bench.as('acme', `/v1/files/${file_id}`)).status).toBe(200);
    expect((await bench.as('globex', `/v1/files/${file_id}`)).status).toBe(404);
    expect(await (await bench.as('globex', '/v1/files')).json()).toMatchObject({ files: [] });
  });

  test('one leaves half of the memory for bodies and for output to the other, however many subjects it has', async () => {
    const outputMemoryBytes = 4 * 2 * STREAM_WINDOW_BYTES;
    const bench = await twoTenants({ config: { outputMemoryBytes } });
    const agents = { acme: await bench.agentOf('acme', { slots: 9 }), globex: await bench.agentOf('globex') };
    await bench.clock.settle();
    const ask = async (org: Tenant, sub: string, body: object = A) =>
      bench.ask('/v1/execute', { key: await bench.key({ org, sub }), body });
    const enough = { status: 429, code: 'rate_limited', detail: expect.stringContaining('tenant') };

    const ends: (() => void)[] = [];
    const send = async (sub: string) => {
      const body = new ReadableStream({
        start(controller) {
          controller.enqueue(new Uint8Array(MAX_REQUEST_BYTES - 1));
          ends.push(() => controller.close());
        },
      });
      const headers = { authorization: `Bearer ${await bench.key({ org: 'acme', sub })}` };
      const init = { method: 'POST', headers, body, duplex: 'half' } as RequestInit;
      return bench.gateway.fetch(new Request('http://gate.example/v1/execute', init));
    };
    const bodies = MAX_REQUESTS_IN_FLIGHT_BYTES / TENANT_SHARE / MAX_REQUEST_BYTES;
    const sent = Array.from({ length: bodies }, (_, n) => send(`s-${n}`));
    await expect.poll(() => bench.gateway.status().requestBytes).toBe(bodies * (MAX_REQUEST_BYTES - 1));
    expect(await problemOf(await ask('acme', 'another'))).toMatchObject(enough);
    expect((await ask('globex', 'one', {})).status).toBe(422);
    for (const end of ends) end();
    await Promise.all(sent);

    const answers = ['a', 'a', 'b', 'b'].map((sub) => ask('acme', sub));
    const running = [];
    for (const _ of answers) running.push(await agents.acme.next());
    expect(await problemOf(await ask('acme', 'c'))).toMatchObject(enough);
    const other = ask('globex', 'one');
    (await agents.globex.next()).succeed();
    expect((await other).status).toBe(200);
    for (const each of running) each.succeed();
    for (const answer of answers) expect((await answer).status).toBe(200);
  });

  test('agents of one name are two: neither takes the other’s place, room or share of links', async () => {
    const bench = await twoTenants({ config: { maxLinksPerTenant: 2 } });
    const acme = [await bench.agentOf('acme'), await bench.agentOf('acme', { instance: 'instance-2' })];
    const globex = await bench.agentOf('globex');
    expect(globex.closed).toBeUndefined();
    expect(acme.map(({ closed }) => closed)).toEqual([undefined, undefined]);
    expect(bench.gateway.status().links).toBe(3);
    expect((await bench.agentOf('acme', { instance: 'instance-3' })).closed?.code).toBe(4403);
    // Each is told of its own tenant's instances alone.
    expect((await globex.seen('WELCOME')).peers).toEqual([]);
    expect((await acme[1]?.seen('WELCOME'))?.peers).toEqual(['instance-1']);
    globex.cut();
    expect((await bench.as('acme', '/v1/clusters')).status).toBe(200);
    expect(bench.gateway.status().links).toBe(2);
  });

  test('one’s token renews no link of the other’s, though both have one name and one key', async () => {
    const bench = await twoTenants();
    const seconds = Math.floor(bench.clock.wall() / 1000);
    const agent = await bench.agent({ claims: { org: 'acme', exp: seconds + 200 } });
    await bench.clock.advance(20_000);
    const { nonce } = await agent.seen('AUTH_REFRESH');
    const { prove, token: own } = agent.options.identity;
    const { cnf } = JSON.parse(atob(own.split('.')[1] ?? ''));
    const token = await bench.agents.sign({
      claims: { org: 'globex', sub: 'agent', jti: 'agent-2', clusters: ['*'], cnf },
    });
    agent.send('AUTH_REFRESH', { token, ...(await prove(nonce, agent.instance, bench.clock.wall())) });
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4403);
  });

  test('ceilings of one leave the other’s alone', async () => {
    const bench = await twoTenants();
    const limits = { requests_per_minute: 1 };
    const keys = await Promise.all(TENANTS.map((org) => bench.key({ org, limits })));
    const statuses = [];
    for (const key of [...keys, ...keys]) statuses.push((await bench.ask('/v1/files', { key })).status);
    expect(statuses).toEqual([200, 200, 429, 429]);
  });
});
