import { expect, test } from 'vitest';
import { digestPrincipal } from '../../shared/principal.ts';
import { createGatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import { announceCluster } from '../fakes/mock-agent.ts';
import { until } from '../fakes/until.ts';

/** Work in a session waits so long for a link to its instance. */
const REACH_MS = 5_000;

/** What names an instance of cluster `lab`, at a gateway that has just begun, and which another cluster's agent joins by its name. */
async function start() {
  const bench = await createGatewayBench();
  const clusters = [announceCluster({ name: 'plant' })];
  const thief = await bench.agent({ clusters, claims: { sub: 'thief', clusters: ['plant'] } });
  await bench.clock.settle();
  const principalDigest = await digestPrincipal('acme/alice');
  const at = { tenant: 'acme', principalDigest, instance: thief.instance, template: 'default' };
  const seal = (kind: 's' | 'w', cluster: string) => bench.deps.ids.seal({ kind, ...at, cluster });
  return { bench, thief, seal };
}

test('an agent that joins by the name of another cluster’s instance is asked for nothing of that cluster, and sent nothing', async () => {
  const { bench, thief, seal } = await start();
  const [session, execution] = [await seal('s', 'lab'), await seal('w', 'lab')];
  const told = thief.received.length;
  for (const [method, path, body] of [
    ['GET', `/v1/sessions/${session}`, undefined],
    ['DELETE', `/v1/sessions/${session}`, undefined],
    ['POST', `/v1/sessions/${session}/extend`, { ttl_seconds: 60 }],
    ['DELETE', `/v1/sessions/${session}/terminals/t`, undefined],
    ['GET', `/v1/executions/${execution}`, undefined],
    ['DELETE', `/v1/executions/${execution}`, undefined],
    ['GET', `/v1/executions/${execution}/events`, undefined],
    ['POST', `/v1/executions/${execution}/stdin`, 'secret'],
    ['POST', `/v1/executions/${execution}/signal`, { signal: 'SIGINT' }],
  ] as const) {
    const answer = await bench.ask(path, { method, ...(body && { body }) });
    expect([method, path, (await problemOf(answer)).code]).toEqual([method, path, 'no_agent']);
  }
  const work = [
    bench.ask(`/v1/sessions/${session}/bash`, { body: { cmd: 'secret' } }),
    bench.ask(`/v1/sessions/${session}/execute`, { body: { code: 'secret' } }),
    bench.ask(`/v1/sessions/${session}/files?path=a`),
  ];
  await until(() => bench.gateway.status().running === work.length);
  await bench.clock.advance(REACH_MS);
  for (const answer of work) expect((await problemOf(await answer)).code).toBe('no_agent');
  const asked = thief.received.slice(told).filter(({ name }) => name !== 'HEARTBEAT');
  expect(asked).toEqual([]);
});

test('an agent is asked for what is in its own cluster as before', async () => {
  const { bench, thief, seal } = await start();
  const answer = bench.ask(`/v1/sessions/${await seal('s', 'plant')}/bash`, { body: { cmd: 'id' } });
  (await thief.next()).succeed();
  expect((await answer).status).toBe(200);
});

test('an agent is told the names of those instances alone that serve a cluster which it may serve too', async () => {
  const bench = await createGatewayBench();
  for (const [instance, name] of [
    ['instance-a', 'lab'],
    ['instance-b', 'plant'],
  ] as const)
    await bench.agent({ instance, clusters: [announceCluster({ name })], claims: { clusters: [name] } });
  await bench.clock.settle();
  const told = async (instance: string, clusters: string[]) => {
    const announced = [announceCluster({ name: 'plant' })];
    const agent = await bench.agent({ instance, clusters: announced, claims: { clusters } });
    return (await agent.seen('WELCOME')).peers;
  };
  expect(await told('instance-c', ['plant'])).toEqual(['instance-b']);
  expect(await told('instance-d', ['*'])).toEqual(expect.arrayContaining(['instance-a', 'instance-b']));
});
