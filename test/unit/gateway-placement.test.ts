import { describe, expect, test } from 'vitest';
import { chooseOffer, type Offer } from '../../gateway/clusters/choose.ts';
import { MAX_ATTEMPTS } from '../../shared/limits.ts';
import { createGatewayBench, type GatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import { announceCluster, announceTemplate, type MockAgent } from '../fakes/mock-agent.ts';
import { until } from '../fakes/until.ts';

const cluster = (name: string, ...templates: string[]) =>
  announceCluster({
    name,
    templates: (templates.length > 0 ? templates : ['default']).map((each) =>
      announceTemplate({ name: each }),
    ),
  });

/** A bench with one agent for each of `names`, which runs everything. */
async function benchOf(...names: string[]): Promise<GatewayBench> {
  const bench = await createGatewayBench();
  for (const name of names)
    await bench.agent({
      instance: `instance-of-${name}`,
      clusters: [cluster(name)],
      run: (execution) => execution.succeed(),
    });
  return bench;
}

describe('the cluster', () => {
  const A = { code: '' };
  test.for<[string, { body?: object; prefix?: string; header?: string; claims?: object }, string]>([
    [
      'is that of the body',
      { body: { cluster: 'a' }, prefix: 'b', header: 'c', claims: { default_cluster: 'd' } },
      'a',
    ],
    ['else that of the path', { prefix: 'b', header: 'c', claims: { default_cluster: 'd' } }, 'b'],
    ['else that of the header', { header: 'c', claims: { default_cluster: 'd' } }, 'c'],
    ["else the key's default", { claims: { default_cluster: 'd' } }, 'd'],
    ['else one that the key may use', { claims: { clusters: ['d'] } }, 'd'],
  ])('%s', async ([, { body = {}, prefix, header, claims = {} }, expected]) => {
    const bench = await benchOf('a', 'b', 'c', 'd');
    const key = await bench.key(claims as Record<string, unknown>);
    for (const path of ['/v1/execute', '/v1/execute/stream']) {
      const response = await bench.ask(`${prefix ? `/clusters/${prefix}` : ''}${path}`, {
        key,
        headers: header ? { 'podgate-cluster': header } : {},
        body: { ...A, ...body },
      });
      expect(response.status).toBe(200);
      expect(await response.text()).toContain(`"cluster":"${expected}"`);
    }
  });

  test('that the key may not use answers exactly like one that does not exist', async () => {
    const bench = await benchOf('mine', 'theirs');
    const key = await bench.key({ clusters: ['mine', 'my-*'], default_cluster: 'theirs' });
    const answers = await Promise.all(
      ['theirs', 'nowhere'].map(async (name) => {
        const { request_id, ...rest } = await problemOf(
          await bench.ask('/v1/execute', { key, body: { ...A, cluster: name } }),
        );
        return JSON.stringify(rest).replaceAll(name, 'NAME');
      }),
    );
    expect(answers[0]).toBe(answers[1]);
    expect(JSON.parse(answers[0] ?? '')).toMatchObject({ status: 404, code: 'no_cluster' });
  });

  test('where none is named is none but those that the key may use', async () => {
    const bench = await benchOf('mine', 'theirs');
    await bench.agent({ instance: 'another', clusters: [cluster('theirs', 'science')] });
    await bench.clock.settle();
    const ask = async (clusters: string[], body: object) =>
      problemOf(
        await bench.ask('/v1/execute', { key: await bench.key({ clusters }), body: { ...A, ...body } }),
      );
    expect(await ask(['mine'], { template: 'science' })).toMatchObject({ code: 'no_template' });
    expect(await ask(['nobodys'], {})).toMatchObject({ code: 'no_agent' });
  });

  test.for(['UPPER', 'a b', '..', ''])('%j is the name of none', async (name) => {
    const bench = await benchOf('a');
    const response = await bench.ask('/v1/execute', { headers: { 'podgate-cluster': name }, body: A });
    expect(await problemOf(response)).toMatchObject({ status: 404, code: 'no_cluster' });
    expect((await bench.ask(`/v1/execute`, { body: { ...A, cluster: name } })).status).toBe(422);
  });

  test('without an agent is a 503 at once, where its name is known', async () => {
    const bench = await createGatewayBench();
    expect(await problemOf(await bench.ask('/v1/execute', { body: A }))).toMatchObject({
      status: 503,
      code: 'no_agent',
      retryable: true,
    });
    const agent = await bench.agent({ clusters: [cluster('gone')] });
    await bench.agent({ instance: 'instance-2', clusters: [cluster('here')], run: (run) => run.succeed() });
    await bench.clock.settle();
    agent.cut();
    const ask = async (name: string, claims = {}) =>
      bench.ask('/v1/execute', { key: await bench.key(claims), body: { ...A, cluster: name } });
    const response = await ask('gone');
    expect(response.headers.get('retry-after')).toBe('2');
    expect(await problemOf(response)).toMatchObject({ status: 503, code: 'no_agent' });
    expect(await problemOf(await ask('never'))).toMatchObject({ code: 'no_cluster' });
    expect(await problemOf(await ask('never', { clusters: ['never'] }))).toMatchObject({ code: 'no_agent' });
    expect(await problemOf(await ask('never', { clusters: ['nev*'] }))).toMatchObject({ code: 'no_cluster' });
    expect((await ask('here')).status).toBe(200);
  });
});

describe('the template', () => {
  test('that is not there, or not for this key, or of another language is refused', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({
      clusters: [cluster('a', 'default', 'science')],
      run: (run) => run.succeed(),
    });
    await bench.clock.settle();
    const ask = async (body: object, claims = {}) =>
      bench.ask('/v1/execute', { key: await bench.key(claims), body: { code: '', ...body } });
    expect(await problemOf(await ask({ template: 'none' }))).toMatchObject({
      status: 404,
      code: 'no_template',
      detail: "No template 'none' here: GET /v1/clusters lists those that the key may use.",
    });
    // What it may not ask itself is not what it is sent to.
    expect(await problemOf(await ask({ template: 'none' }, { scope: 'execute' }))).toMatchObject({
      detail:
        "No template 'none' here: GET /v1/clusters lists those that there are, to a key that has the scope 'clusters'.",
    });
    const only = { templates: ['science'] };
    expect(await problemOf(await ask({ template: 'default' }, only))).toMatchObject({ code: 'no_template' });
    expect((await ask({ template: 'science' }, only)).status).toBe(200);
    // A key for one template means that one.
    expect((await ask({}, only)).status).toBe(200);
    expect(agent.received.findLast(({ name }) => name === 'START')?.body).toMatchObject({
      template: 'science',
    });
    expect(await problemOf(await ask({ language: 'node' }))).toMatchObject({
      status: 422,
      code: 'no_language',
      errors: [
        { path: 'language', message: "Template 'default' has no language 'node', only bash, python." },
      ],
    });
  });

  const trouble = { code: 'image_error', detail: 'The image cannot be pulled.', free: 0, waits: false };
  const troubled = (changes: Partial<typeof trouble> = {}) =>
    announceCluster({ templates: [announceTemplate({ trouble: { ...trouble, ...changes } })] });
  const listing = async (bench: GatewayBench) =>
    ((await (await bench.ask('/v1/clusters')).json()) as { clusters: { templates: object[] }[] }).clusters[0]
      ?.templates[0];

  test('that became smaller never has more free than there are', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ clusters: [announceCluster()], slots: 4 });
    await bench.clock.settle();
    expect(await listing(bench)).toMatchObject({ slots_free: 4, slots_total: 4 });
    const smaller = announceCluster({ templates: [announceTemplate({ total: 1 })] });
    agent.send('SLOTS', { grants: [], clusters: [smaller] });
    await bench.clock.settle();
    expect(await listing(bench)).toMatchObject({ slots_free: 1, slots_total: 1 });
  });

  test('in trouble says what is wrong, at once, whatever was granted before', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ clusters: [troubled()], slots: 4 });
    await bench.clock.settle();
    expect(await problemOf(await bench.ask('/v1/execute', { body: { code: '' } }))).toMatchObject({
      status: 503,
      code: 'image_error',
      detail: trouble.detail,
    });
    const { code, detail } = trouble;
    expect(await listing(bench)).toMatchObject({ slots_free: 0, slots_total: 4, trouble: { code, detail } });
    agent.send('SLOTS', { grants: [], clusters: [troubled({ free: 1 })] });
    await bench.clock.settle();
    expect(await listing(bench)).toMatchObject({ slots_free: 1 });
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    (await agent.next()).succeed();
    expect((await answer).status).toBe(200);
  });

  test.for([
    [
      'backend_unavailable',
      "The API server of context 'prod' cannot be reached.",
      /^The cluster cannot be reached or used now\.$/,
    ],
    ['image_error', '', /^The sandbox image cannot be used\.$/],
  ] as const)(
    'in trouble of %s keeps what names the cluster inside from callers without the scope',
    async ([code, detail, words]) => {
      const bench = await createGatewayBench();
      await bench.agent({ clusters: [troubled({ code, detail })], slots: 4 });
      await bench.clock.settle();
      const response = await bench.ask('/v1/execute', { body: { code: '' } });
      expect(await problemOf(response)).toMatchObject({
        status: 503,
        code,
        detail: expect.stringMatching(words),
      });
      expect(await listing(bench)).toMatchObject({ trouble: { code, detail } });
    },
  );

  test('in trouble with sandboxes that come free queues for them, and names the trouble when none did', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ clusters: [troubled({ waits: true })], slots: 4 });
    await bench.clock.settle();
    const late = bench.ask('/v1/execute', { body: { code: '', queue_timeout_ms: 100 } });
    await until(() => bench.gateway.status().queued === 1);
    await bench.clock.advance(100);
    expect(await problemOf(await late)).toMatchObject({ status: 503, code: 'image_error' });
    const served = bench.ask('/v1/execute', { body: { code: '' } });
    await until(() => bench.gateway.status().queued === 1);
    agent.send('SLOTS', { grants: [], clusters: [troubled({ waits: true, free: 1 })] });
    (await agent.next()).succeed();
    expect((await served).status).toBe(200);
  });
});

describe('the choice', () => {
  const offer = (name: string, free: number, total: number, running = 0): Offer => {
    const [of = '', instance = ''] = name.split('/');
    return { cluster: of, instance, free, total, running };
  };
  test.for<[string, Offer[], string | undefined]>([
    ['is nothing where nothing is free', [offer('a/1', 0, 4), offer('b/1', 0, 4)], undefined],
    ['is what is free', [offer('a/1', 0, 9), offer('b/1', 1, 9)], 'b/1'],
    ['is the cluster with the larger share free', [offer('a/1', 4, 8), offer('b/1', 3, 4)], 'b/1'],
    ['counts a cluster whole', [offer('a/1', 1, 4), offer('a/2', 4, 4), offer('b/1', 3, 4)], 'b/1'],
    [
      'is in its cluster the instance with the larger share free',
      [offer('a/1', 1, 4), offer('a/2', 2, 4)],
      'a/2',
    ],
    ['is between equals the one with more free', [offer('a/1', 2, 2), offer('a/2', 4, 4)], 'a/2'],
    ['is then the one with less running', [offer('a/1', 2, 4, 2), offer('a/2', 2, 4, 1)], 'a/2'],
    ['is then the first by name', [offer('b/1', 2, 4), offer('a/2', 2, 4), offer('a/1', 2, 4)], 'a/1'],
    ['never divides by a total of nothing', [offer('a/1', 1, 0)], 'a/1'],
  ])('%s', ([, offers, expected]) => {
    const chosen = chooseOffer(offers);
    expect(chosen && `${chosen.cluster}/${chosen.instance}`).toBe(expected);
  });

  test('spreads executions over clusters, instances and links', async () => {
    const bench = await createGatewayBench();
    const agents = await Promise.all(
      ['a', 'a', 'b', 'b'].map((name, index) =>
        bench.agent({ instance: `instance-${index}`, clusters: [cluster(name)], slots: 2, refill: false }),
      ),
    );
    await bench.clock.settle();
    const answers = Array.from({ length: 8 }, () => bench.ask('/v1/execute', { body: { code: '' } }));
    await until(() => agents.every(({ executions }) => executions.length === 2));
    for (const { executions } of agents) for (const execution of executions) execution.succeed();
    for (const answer of answers) expect((await answer).status).toBe(200);
  });
});

describe('the queue', () => {
  test('hands a slot on as soon as it is granted', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 0 });
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    await until(() => bench.gateway.status().queued === 1);
    await bench.clock.advance(1_234);
    agent.grant(1);
    (await agent.next()).succeed();
    expect(await (await answer).json()).toMatchObject({ queue_ms: 1_234 });
    expect(bench.gateway.status().queued).toBe(0);
  });

  test('hands a slot on that whoever had it gives back unused', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 1 });
    await bench.clock.settle();
    const { ids } = bench.deps;
    const seal = ids.seal.bind(ids);
    const go = Promise.withResolvers<void>();
    ids.seal = async (parts) => {
      await go.promise;
      return seal(parts);
    };
    const caller = new AbortController();
    const left = bench.ask('/v1/execute', { body: { code: 'left' }, signal: caller.signal });
    await until(() => bench.gateway.status().running === 1);
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    await until(() => bench.gateway.status().queued === 1);
    caller.abort();
    await left;
    go.resolve();
    (await agent.next()).succeed();
    expect((await answer).status).toBe(200);
    expect(agent.executions).toEqual([]);
  });

  test('gives up after queue_timeout_ms, not before', async () => {
    const bench = await createGatewayBench();
    await bench.agent({ slots: 0 });
    await bench.clock.settle();
    let settled = false;
    const answer = bench.ask('/v1/execute', { body: { code: '', queue_timeout_ms: 700 } }).finally(() => {
      settled = true;
    });
    await until(() => bench.gateway.status().queued === 1);
    await bench.clock.advance(699);
    expect(settled).toBe(false);
    await bench.clock.advance(1);
    const response = await answer;
    expect(response.headers.get('retry-after')).toBe('1');
    expect(await problemOf(response)).toMatchObject({ status: 503, code: 'at_capacity', retryable: true });
    expect(bench.gateway.status()).toMatchObject({ queued: 0, running: 0, outputBytes: 0, requestBytes: 0 });
  });

  test('of no length answers at once', async () => {
    const bench = await createGatewayBench();
    await bench.agent({ slots: 0 });
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: '', queue_timeout_ms: 0 } });
    await until(() => bench.gateway.status().queued === 1);
    await bench.clock.settle();
    expect((await answer).status).toBe(503);
  });

  test('says no_agent where the agent went away meanwhile', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 0 });
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    await until(() => bench.gateway.status().queued === 1);
    agent.cut();
    await bench.clock.advance(5_000);
    expect(await problemOf(await answer)).toMatchObject({ status: 503, code: 'no_agent' });
  });

  test('is fair: one holder’s hundred does not delay another’s one, users of a key share its turn', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 0, refill: false });
    await bench.clock.settle();
    const greedy = await bench.key({ sub: 'greedy' });
    const modest = await bench.key({ sub: 'modest' });
    const waiting: Promise<Response>[] = [];
    const add = async (key: string, code: string, user?: string) => {
      const before = bench.gateway.status().queued;
      waiting.push(
        bench.ask('/v1/execute', { key, body: { code }, headers: user ? { 'podgate-user': user } : {} }),
      );
      await until(() => bench.gateway.status().queued === before + 1);
    };
    for (let index = 0; index < 6; index += 1) await add(greedy, `greedy-${index}`, `user-${index}`);
    for (let index = 0; index < 2; index += 1) await add(modest, `modest-${index}`);
    const order: string[] = [];
    for (let turn = 0; turn < 8; turn += 1) {
      agent.grant(1);
      const execution = await agent.next();
      order.push((await execution.input()).code);
      execution.succeed();
    }
    expect(order).toEqual(
      'greedy-0 modest-0 greedy-1 modest-1 greedy-2 greedy-3 greedy-4 greedy-5'.split(' '),
    );
    await Promise.all(waiting);
  });

  test('lets what wants another cluster or template pass', async () => {
    const bench = await createGatewayBench();
    const busy = await bench.agent({ instance: 'instance-busy', clusters: [cluster('busy')], slots: 0 });
    const idle = await bench.agent({ instance: 'instance-idle', clusters: [cluster('idle')] });
    await bench.clock.settle();
    const stuck = bench.ask('/v1/execute', { body: { code: 'stuck', cluster: 'busy' } });
    await until(() => bench.gateway.status().queued === 1);
    const passes = bench.ask('/v1/execute', { body: { code: 'passes', cluster: 'idle' } });
    (await idle.next()).succeed();
    expect((await passes).status).toBe(200);
    busy.grant(1);
    (await busy.next()).succeed();
    expect((await stuck).status).toBe(200);
  });

  test('lets a key pass whose own clusters have room, where none is named', async () => {
    const bench = await createGatewayBench();
    const busy = await bench.agent({ instance: 'instance-busy', clusters: [cluster('busy')], slots: 0 });
    const idle = await bench.agent({ instance: 'instance-idle', clusters: [cluster('idle')] });
    await bench.clock.settle();
    const ask = async (name: string) =>
      bench.ask('/v1/execute', {
        key: await bench.key({ sub: name, clusters: [name] }),
        body: { code: '' },
      });
    const stuck = ask('busy');
    await until(() => bench.gateway.status().queued === 1);
    const passes = ask('idle');
    (await idle.next()).succeed();
    expect((await passes).status).toBe(200);
    busy.grant(1);
    (await busy.next()).succeed();
    expect((await stuck).status).toBe(200);
  });

  test('lets pass who was not refused by the instance that has room', async () => {
    const bench = await createGatewayBench();
    const room = await bench.agent({ instance: 'instance-1', slots: 3 });
    const full = await bench.agent({ instance: 'instance-2', slots: 0 });
    await bench.clock.settle();
    const refused = bench.ask('/v1/execute', { body: { code: '' } });
    (await room.next()).nack('quota_exceeded');
    await until(() => bench.gateway.status().queued === 1);
    const passes = bench.ask('/v1/execute', { body: { code: '' } });
    (await room.next()).succeed();
    expect((await passes).status).toBe(200);
    full.grant(1);
    (await full.next()).succeed();
    expect((await refused).status).toBe(200);
  });
});

describe('a NACK', () => {
  test('sends the execution to another instance, with an id of its own', async () => {
    const bench = await createGatewayBench();
    const agents = await Promise.all(
      [1, 2].map((n) => bench.agent({ instance: `instance-${n}`, refill: false })),
    );
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: 'x' } });
    await until(() => agents.some(({ executions }) => executions.length === 1));
    const [first, second] = agents[0]?.executions.length ? agents : agents.toReversed();
    const refused = await first?.next();
    refused?.nack('sandbox_lost');
    const taken = await second?.next();
    expect(taken?.id).not.toBe(refused?.id);
    expect((await taken?.input())?.code).toBe('x');
    taken?.succeed('done');
    expect(await (await answer).json()).toMatchObject({ stdout: 'done', execution_id: taken?.id });
    await expect.poll(() => bench.records[0]?.attempts).toBe(2);
  });

  test.for(['sandbox_lost', 'runner_error'])(
    'of one sandbox, %s, sends the execution to another of the same instance where there is no other',
    async (code) => {
      const bench = await createGatewayBench();
      const agent = await bench.agent({ slots: 2 });
      await bench.clock.settle();
      const answer = bench.ask('/v1/execute', { body: { code: 'x' } });
      const refused = await agent.next();
      refused.nack(code);
      const taken = await agent.next();
      expect(taken.id).not.toBe(refused.id);
      taken.succeed('done');
      expect(await (await answer).json()).toMatchObject({ stdout: 'done', execution_id: taken.id });
    },
  );

  test('of one sandbox, sends the execution to another instance, though this one has more to spare', async () => {
    const bench = await createGatewayBench();
    const ample = await bench.agent({ instance: 'instance-1', slots: 9 });
    const scant = await bench.agent({ instance: 'instance-2', slots: 1 });
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: 'x' } });
    (await ample.next()).nack('runner_error');
    (await scant.next()).succeed('done');
    expect(await (await answer).json()).toMatchObject({ stdout: 'done' });
  });

  test('of one sandbox, with all of the other instance taken, waits for none of them', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ instance: 'instance-1', slots: 2 });
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: 'x' } });
    const refused = await agent.next();
    await bench.agent({ instance: 'instance-2', slots: 0 });
    await bench.clock.settle();
    refused.nack('runner_error');
    (await agent.next()).succeed('done');
    expect(await (await answer).json()).toMatchObject({ stdout: 'done' });
    expect(bench.gateway.status().queued).toBe(0);
  });

  test('of one sandbox, with nobody free, waits for whoever is free first, within the queue timeout', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 1, refill: false });
    await bench.clock.settle();
    const ask = () => bench.ask('/v1/execute', { body: { code: 'x', queue_timeout_ms: 100 } });
    const served = ask();
    (await agent.next()).nack('runner_error');
    await until(() => bench.gateway.status().queued === 1);
    agent.grant(1);
    (await agent.next()).succeed('done');
    expect(await (await served).json()).toMatchObject({ stdout: 'done' });
    agent.grant(1);
    const given = ask();
    (await agent.next()).nack('runner_error', 'No place was ready.');
    await until(() => bench.gateway.status().queued === 1);
    await bench.clock.advance(100);
    expect(await problemOf(await given)).toMatchObject({
      status: 502,
      code: 'runner_error',
      started: 'no',
      detail: 'No place was ready.',
    });
  });

  test(`of one sandbox is tried ${MAX_ATTEMPTS} times and no more`, async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 9, run: (run) => run.nack('runner_error') });
    await bench.clock.settle();
    const response = await bench.ask('/v1/execute', { body: { code: '' } });
    expect(await problemOf(response)).toMatchObject({ status: 502, code: 'runner_error', started: 'no' });
    expect(agent.received.filter(({ name }) => name === 'START')).toHaveLength(MAX_ATTEMPTS);
  });

  test(`is the answer after ${MAX_ATTEMPTS} attempts`, async () => {
    const bench = await createGatewayBench();
    const agents = await Promise.all(
      [1, 2, 3, 4].map((n) =>
        bench.agent({ instance: `instance-${n}`, run: (run) => run.nack('image_error', 'No image.') }),
      ),
    );
    await bench.clock.settle();
    const response = await bench.ask('/v1/execute', { body: { code: '' } });
    expect(await problemOf(response)).toMatchObject({
      status: 503,
      code: 'image_error',
      detail: 'No image.',
      retryable: true,
    });
    const starts = agents.flatMap(({ received }) => received.filter(({ name }) => name === 'START'));
    expect(starts).toHaveLength(MAX_ATTEMPTS);
  });

  test.for([
    ['policy_denied', 403],
    ['image_error', 503],
    ['quota_exceeded', 503],
    ['unschedulable', 503],
    ['backend_unavailable', 503],
    ['isolation_failed', 503],
    ['no_template', 404],
    ['no_language', 422],
    ['stage_failed', 422],
    ['too_large', 413],
    ['rate_limited', 429],
    ['sandbox_lost', 502],
  ] as const)('with %s, and nobody else to ask, is %i at once', async ([code, status]) => {
    const bench = await createGatewayBench();
    await bench.agent({ run: (run) => run.nack(code, 'One sentence.', 2_500) });
    await bench.clock.settle();
    const response = await bench.ask('/v1/execute', { body: { code: '' } });
    if ([429, 503].includes(status)) expect(response.headers.get('retry-after')).toBe('3');
    expect(await problemOf(response)).toMatchObject({ status, code, detail: 'One sentence.' });
  });

  test.for(['unauthorized', 'not_found', 'internal', 'nonsense', 'constructor'])(
    'with %s, which is not for an agent to say, is the backend’s trouble',
    async (code) => {
      const bench = await createGatewayBench();
      await bench.agent({ run: (run) => run.nack(code) });
      await bench.clock.settle();
      const response = await bench.ask('/v1/execute', { body: { code: '' } });
      expect(await problemOf(response)).toMatchObject({ status: 503, code: 'backend_unavailable' });
    },
  );

  test('of rate_limited is not tried elsewhere', async () => {
    const bench = await createGatewayBench();
    const agents = await Promise.all(
      [1, 2].map((n) => bench.agent({ instance: `instance-${n}`, run: (run) => run.nack('rate_limited') })),
    );
    await bench.clock.settle();
    expect((await bench.ask('/v1/execute', { body: { code: '' } })).status).toBe(429);
    const starts = agents.flatMap(({ received }) => received.filter(({ name }) => name === 'START'));
    expect(starts).toHaveLength(1);
  });

  test('of at_capacity waits on for a slot, within the queue timeout', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 1, refill: false });
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    (await agent.next()).nack('at_capacity');
    await until(() => bench.gateway.status().queued === 1);
    agent.grant(1);
    (await agent.next()).nack('at_capacity');
    await until(() => bench.gateway.status().queued === 1);
    await bench.clock.advance(5_000);
    expect(await problemOf(await answer)).toMatchObject({ status: 503, code: 'at_capacity' });
  });

  test('of at_capacity once the queue timeout is over is the answer, whatever the instance grants', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 9 });
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: '', queue_timeout_ms: 100 } });
    const waited = await agent.next();
    await bench.clock.advance(100);
    waited.nack('at_capacity', 'No sandbox was free in time.');
    expect(await problemOf(await answer)).toMatchObject({
      status: 503,
      code: 'at_capacity',
      retryable: true,
    });
    expect(agent.received.filter(({ name }) => name === 'START')).toHaveLength(1);
  });

  test('of at_capacity once the queue timeout is over has others asked, each of them once', async () => {
    const bench = await createGatewayBench();
    const agents = await Promise.all([1, 2].map((n) => bench.agent({ instance: `instance-${n}`, slots: 9 })));
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: '', queue_timeout_ms: 0 } });
    await until(() => agents.some(({ executions }) => executions.length === 1));
    const [first, second] = agents[0]?.executions.length ? agents : agents.toReversed();
    (await first?.next())?.nack('at_capacity');
    (await second?.next())?.nack('at_capacity');
    expect(await problemOf(await answer)).toMatchObject({ status: 503, code: 'at_capacity' });
    for (const { received } of agents)
      expect(received.filter(({ name }) => name === 'START')).toHaveLength(1);
  });

  test('is not what a START that was lost with its link is told, where no slot is free in time', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 1, refill: false });
    const sister = await bench.agent({ identity: agent.options.identity, slots: 0, refill: false });
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    const lost = await agent.next();
    agent.cut();
    await until(() => bench.gateway.status().queued === 1);
    await bench.clock.advance(5_000);
    const response = await answer;
    expect(response.headers.get('retry-after')).toBe('2');
    expect(await problemOf(response)).toMatchObject({ status: 503, code: 'no_agent', retryable: true });
    expect(sister.received).toContainEqual(
      expect.objectContaining({
        name: 'STATUS',
        body: expect.objectContaining({ execution_id: lost.id, refuse_if_unknown: true }),
      }),
    );
  });

  test('is none of a link that drained, or was lost, before START went out: it goes elsewhere, its grant unspent', async () => {
    for (const leave of [
      (agent: MockAgent) => agent.send('DRAIN', { deadline_ms: 60_000 }),
      (agent: MockAgent) => agent.cut(),
    ]) {
      const bench = await createGatewayBench();
      const leaving = await bench.agent({ slots: 1 });
      await bench.clock.settle();
      const { ids } = bench.deps;
      const seal = ids.seal.bind(ids);
      const sealing = Promise.withResolvers<void>();
      const go = Promise.withResolvers<void>();
      ids.seal = async (parts) => {
        sealing.resolve();
        await go.promise;
        return seal(parts);
      };
      const answer = bench.ask('/v1/execute', { body: { code: '' } });
      await sealing.promise;
      leave(leaving);
      const staying = await bench.agent({ instance: 'instance-2', slots: 1 });
      await bench.clock.settle();
      go.resolve();
      (await staying.next()).succeed('there');
      expect(await (await answer).json()).toMatchObject({ stdout: 'there', queue_ms: 0 });
      expect(leaving.received.some(({ name }) => name === 'START')).toBe(false);
    }
  });

  test('gives no grant back: the agent does', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 1, refill: false });
    await bench.clock.settle();
    const first = bench.ask('/v1/execute', { body: { code: '' } });
    (await agent.next()).nack('stage_failed');
    expect((await first).status).toBe(422);
    const second = bench.ask('/v1/execute', { body: { code: '', queue_timeout_ms: 10 } });
    await until(() => bench.gateway.status().queued === 1);
    await bench.clock.advance(10);
    expect((await second).status).toBe(503);
    expect(agent.executions).toEqual([]);
  });
});

describe('/v1/clusters', () => {
  test('shows what the key may use, instance by instance, in pages', async () => {
    const bench = await createGatewayBench();
    const names = ['a', 'b', 'c'];
    for (const name of names)
      await bench.agent({ instance: `instance-of-${name}`, clusters: [cluster(name, 'default', 'other')] });
    await bench.clock.settle();
    const list = async (query = '', claims = {}) => {
      const key = await bench.key(claims);
      return (await bench.ask(`/v1/clusters${query}`, { key })).json() as Promise<{
        clusters: { name: string }[];
        next_cursor: string | null;
      }>;
    };
    const all = await list();
    expect(all.next_cursor).toBeNull();
    expect(all.clusters.map(({ name }) => name)).toEqual(names);
    expect(all.clusters[0]).toMatchObject({
      state: 'ready',
      backend: 'local',
      instances: [{ instance: 'instance-of-a', first_seen: 1_800_000_001, links: 1, draining: false }],
      templates: [
        { name: 'default', languages: ['python', 'bash'], slots_free: 4, slots_total: 4, trouble: null },
        { name: 'other' },
      ],
    });
    expect((await list('', { clusters: ['b'] })).clusters.map(({ name }) => name)).toEqual(['b']);
    const narrow = await list('', { templates: ['other'] });
    expect(narrow.clusters[0]).toMatchObject({ templates: [{ name: 'other' }] });
    const page = await list('?limit=2');
    expect([page.clusters.length, page.next_cursor]).toEqual([2, 'b']);
    expect((await list('?limit=2&cursor=b')).clusters.map(({ name }) => name)).toEqual(['c']);
    for (const query of ['?limit=0', '?limit=1001', '?limit=x', '?cursor=%20'])
      expect((await bench.ask(`/v1/clusters${query}`)).status).toBe(422);
    expect(await problemOf(await bench.ask('/v1/clusters?limit=abc'))).toMatchObject({
      detail: 'limit must be a whole number',
      errors: [{ path: 'limit', message: 'limit must be a whole number' }],
    });
  });

  test('below the path of one cluster shows that one, and refuses a name that is none', async () => {
    const bench = await createGatewayBench();
    await bench.agent({ clusters: [cluster('a', 'default'), cluster('b', 'default')] });
    await bench.clock.settle();
    const key = await bench.key({ clusters: ['a'] });
    const found = await (await bench.ask('/clusters/a/v1/clusters', { key })).json();
    expect(found).toMatchObject({ clusters: [{ name: 'a' }], next_cursor: null });
    for (const name of ['b', 'nope'])
      expect(await problemOf(await bench.ask(`/clusters/${name}/v1/clusters`, { key }))).toMatchObject({
        status: 404,
        code: 'no_cluster',
        detail: `No cluster '${name}': GET /v1/clusters lists those that the key may use.`,
      });
  });

  test('calls no cluster ready whose agents all leave, and goes by those that stay', async () => {
    const bench = await createGatewayBench();
    const leaving = await bench.agent({ instance: 'instance-1' });
    await bench.clock.settle();
    leaving.send('DRAIN', { deadline_ms: 1_000 });
    const listed = async () => {
      await bench.clock.settle();
      const { clusters } = (await (await bench.ask('/v1/clusters')).json()) as { clusters: object[] };
      return clusters[0];
    };
    expect(await listed()).toMatchObject({
      state: 'unavailable',
      detail: 'Its agents are leaving.',
      backend: 'local',
      instances: [{ instance: 'instance-1', draining: true }],
    });
    await bench.agent({ instance: 'instance-2' });
    expect(await listed()).toMatchObject({ state: 'ready', detail: null });
  });

  test('still shows a cluster whose agent went away', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    await bench.clock.settle();
    agent.cut();
    const { clusters } = (await (await bench.ask('/v1/clusters')).json()) as { clusters: object[] };
    expect(clusters).toMatchObject([
      { name: 'lab', state: 'unavailable', detail: 'No agent is connected.', instances: [], templates: [] },
    ]);
  });
});

describe('/health and /ready', () => {
  test('say whether an agent is there and whether anything can run', async () => {
    const bench = await createGatewayBench();
    const health = async () => (await bench.ask('/health', { key: null })).json();
    const ready = async () => (await bench.ask('/ready', { key: null })).status;
    expect(await health()).toEqual({ status: 'error', message: 'No agent is connected.', version: '0.5.0' });
    expect(await ready()).toBe(503);
    const agent = await bench.agent();
    await bench.clock.settle();
    expect(await health()).toEqual({ status: 'ok', message: null, version: '0.5.0' });
    expect(await ready()).toBe(200);
    agent.send('DRAIN', { deadline_ms: 1_000 });
    await bench.clock.settle();
    expect(await ready()).toBe(503);
  });

  test.for([
    [{ free: 0, waits: false }, 503],
    [{ free: 1, waits: false }, 200],
    [{ free: 0, waits: true }, 200],
  ] as const)('count a template in trouble with %j as an execution finds it: %i', async ([left, status]) => {
    const bench = await createGatewayBench();
    const trouble = { code: 'image_error', detail: 'The image cannot be pulled.', ...left };
    const templates = [announceTemplate({ trouble })];
    const agent = await bench.agent({ clusters: [announceCluster({ templates })], slots: 4 });
    await bench.clock.settle();
    const ready = async () => (await bench.ask('/ready', { key: null })).status;
    expect(await ready()).toBe(status);
    expect(await (await bench.ask('/health', { key: null })).json()).toMatchObject({ status: 'ok' });
    // One that can run is enough.
    const both = announceCluster({ templates: [...templates, announceTemplate({ name: 'other' })] });
    agent.send('SLOTS', { grants: [], clusters: [both] });
    await bench.clock.settle();
    expect(await ready()).toBe(200);
  });
});
