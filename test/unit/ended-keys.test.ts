import { describe, expect, test } from 'vitest';
import { watchKey } from '../../gateway/auth/watch-key.ts';
import { COMEBACK_MS } from '../../gateway/clusters/instance.ts';
import { DISCARD_BOUNDS } from '../../gateway/http/discard.ts';
import { bearer } from '../fakes/auth-bench.ts';
import {
  createGatewayBench,
  type GatewayBench,
  type GatewayBenchOptions,
  problemOf,
} from '../fakes/gateway-bench.ts';

/** A gateway, an agent that waits for work, and a key that can be revoked. */
async function start(options: GatewayBenchOptions = {}) {
  const bench = await createGatewayBench({ denyList: true, ...options });
  const agent = await bench.agent();
  await bench.clock.settle();
  return { bench, agent, key: await bench.key({ jti: 'leaked' }) };
}

async function revoke({ auth }: GatewayBench): Promise<void> {
  auth.documents.set('deny', 'leaked');
  await auth.authenticator.refresh();
}

type Ask = { path: string; key: string; headers?: Record<string, string> };

/** A request whose key is accepted, and whose body comes when the test says so. */
async function slowly({ gateway }: GatewayBench, { path, key, headers = {} }: Ask) {
  const asked = Promise.withResolvers<void>();
  const text = Promise.withResolvers<string>();
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        asked.resolve();
        controller.enqueue(new TextEncoder().encode(await text.promise));
        controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  const answer = gateway.fetch(
    new Request(`http://gate.example${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, ...headers },
      body,
      duplex: 'half',
    } as RequestInit),
  );
  await asked.promise;
  return {
    answer,
    send: (content: object | string) =>
      text.resolve(typeof content === 'string' ? content : JSON.stringify(content)),
  };
}

async function upload({ gateway, key }: GatewayBench, content: string | Uint8Array<ArrayBuffer>) {
  const body = new FormData();
  body.set('file', new Blob([content]), 'a.txt');
  const response = await gateway.fetch(
    new Request('http://gate.example/v1/files', {
      method: 'POST',
      headers: { authorization: `Bearer ${await key()}` },
      body,
    }),
  );
  return ((await response.json()) as { file_id: string }).file_id;
}

const OWNER = 'acme/alice';
const REFUSED = { status: 401, code: 'unauthorized', retryable: false };

describe('a key that is revoked while the body of its request arrives', () => {
  test.for<[string, object, Record<string, string>]>([
    ['/v1/execute', { code: '' }, {}],
    ['/v1/execute', { code: '' }, { 'idempotency-key': 'once' }],
    ['/v1/execute/stream', { code: '' }, {}],
    ['/v1/execute/stream', { code: '', detach: true }, {}],
    ['/v1/sessions', {}, {}],
    ['/v1/sessions/some/extend', { ttl_seconds: 60 }, {}],
    ['/v1/sessions/some/bash', { cmd: 'true' }, {}],
    ['/v1/sessions/some/execute/stream', { code: '' }, {}],
    ['/v1/executions/some/signal', { signal: 'SIGINT' }, {}],
  ])('begins nothing by %s %j %j', async ([path, body, headers]) => {
    const { bench, agent, key } = await start();
    const { answer, send } = await slowly(bench, { path, key, headers });
    await revoke(bench);
    const told = agent.received.length;
    send(body);
    expect(await problemOf(await answer)).toMatchObject(REFUSED);
    await bench.clock.settle();
    expect(agent.received.slice(told)).toEqual([]);
    expect(bench.gateway.status()).toMatchObject({ running: 0, queued: 0, requestBytes: 0, outputBytes: 0 });
  });

  test('is told nothing of what the same Idempotency-Key began before, nor how that failed', async () => {
    const { bench, agent, key } = await start();
    const headers = { 'idempotency-key': 'once' };
    const first = bench.ask('/v1/execute', { body: { code: '' }, key, headers });
    (await agent.next()).begin();
    const { answer, send } = await slowly(bench, { path: '/v1/execute', key, headers });
    agent.cut();
    await bench.clock.advance(COMEBACK_MS);
    expect(await problemOf(await first)).toMatchObject({ code: 'agent_lost' });
    await revoke(bench);
    send({ code: '' });
    expect(await problemOf(await answer)).toMatchObject(REFUSED);
  });
});

test('a key that is revoked while its files are looked up begins nothing, and its Idempotency-Key is new', async () => {
  const asked = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const { bench, agent, key } = await start({
    fileStore(store) {
      const stat = store.stat.bind(store);
      store.stat = async (...given) => {
        asked.resolve();
        await go.promise;
        return stat(...given);
      };
      return store;
    },
  });
  const file_id = await upload(bench, 'x');
  const request = {
    body: { code: '', files: [{ path: 'a.txt', file_id }] },
    headers: { 'idempotency-key': 'once' },
  };
  const answer = bench.ask('/v1/execute', { ...request, key });
  await asked.promise;
  await revoke(bench);
  go.resolve();
  expect(await problemOf(await answer)).toMatchObject(REFUSED);
  expect(agent.received.filter(({ name }) => name === 'START')).toEqual([]);
  const again = bench.ask('/v1/execute', request);
  (await agent.next()).succeed();
  expect((await again).status).toBe(200);
});

test('a key that is revoked between its slot and START has begun nothing, and its Idempotency-Key is new', async () => {
  const { bench, agent, key } = await start();
  const { ids } = bench.deps;
  const seal = ids.seal.bind(ids);
  const asked = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  ids.seal = async (parts) => {
    asked.resolve();
    await go.promise;
    return seal(parts);
  };
  const request = { body: { code: '' }, headers: { 'idempotency-key': 'once' } };
  const answer = bench.ask('/v1/execute', { ...request, key });
  await asked.promise;
  await revoke(bench);
  expect(await problemOf(await answer)).toMatchObject(REFUSED);
  await expect.poll(() => bench.records).toMatchObject([{ code: 'unauthorized', started: 'no' }]);
  go.resolve();
  await bench.clock.settle();
  expect(agent.received.filter(({ name }) => name === 'START')).toEqual([]);
  const again = bench.ask('/v1/execute', request);
  (await agent.next()).succeed();
  expect((await again).status).toBe(200);
});

test('a key that ends while the body of its request arrives begins nothing', async () => {
  const { bench, agent } = await start();
  const key = await bench.key({ exp: Math.floor(bench.clock.wall() / 1_000) + 1 });
  const { answer, send } = await slowly(bench, { path: '/v1/execute', key });
  await bench.clock.advance(62_000);
  send({ code: '' });
  expect(await problemOf(await answer)).toMatchObject(REFUSED);
  expect(agent.received.filter(({ name }) => name === 'START')).toEqual([]);
});

test('who watches a key that was revoked before is told once, in a turn of its own, unless it stopped', async () => {
  const { bench, key } = await start();
  const caller = await bench.auth.authenticator.authenticate(bearer(key));
  await revoke(bench);
  const timers = bench.clock.pending;
  const told: string[] = [];
  watchKey(bench.deps, caller, () => told.push('watches'));
  const stop = watchKey(bench.deps, caller, () => told.push('stopped'));
  stop();
  expect(told).toEqual([]);
  await bench.clock.settle();
  expect(told).toEqual(['watches']);
  expect(bench.clock.pending).toBe(timers);
});

describe('a key that is revoked in the middle of a file', () => {
  const HEAD = '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nfirst';
  const NOTHING = { bytes: 0, count: 0 };

  /** An upload of which the store has a part. */
  async function half() {
    const { bench, key } = await start();
    const encoder = new TextEncoder();
    let body: ReadableStreamDefaultController<Uint8Array> | undefined;
    const answer = bench.gateway.fetch(
      new Request('http://gate.example/v1/files', {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'multipart/form-data; boundary=b' },
        body: new ReadableStream({
          start(controller) {
            body = controller;
            controller.enqueue(encoder.encode(HEAD + 'x'.repeat(1_000)));
          },
        }),
        duplex: 'half',
      } as RequestInit),
    );
    await expect.poll(() => bench.files.usage(OWNER)).toMatchObject({ count: 1 });
    return {
      bench,
      answer,
      end() {
        body?.enqueue(encoder.encode('last\r\n--b--'));
        body?.close();
      },
    };
  }

  test('stores nothing of it, however its form ends', async () => {
    const { bench, answer, end } = await half();
    await revoke(bench);
    end();
    expect(await problemOf(await answer)).toMatchObject(REFUSED);
    expect(await bench.files.usage(OWNER)).toEqual(NOTHING);
  });

  test('gives its room back also where nothing more of it comes', async () => {
    const { bench, answer } = await half();
    await revoke(bench);
    await expect.poll(() => bench.files.usage(OWNER)).toEqual(NOTHING);
    await bench.clock.advance(DISCARD_BOUNDS.maxMs);
    expect(await problemOf(await answer)).toMatchObject(REFUSED);
  });

  test('has no more of it, while another key reads on', async () => {
    const { bench, key } = await start();
    const path = `/v1/files/${await upload(bench, new Uint8Array(1_000_000))}`;
    const timers = bench.clock.pending;
    const cut = (await bench.ask(path, { key })).body?.getReader();
    const whole = await bench.ask(path);
    expect((await cut?.read())?.done).toBe(false);
    await revoke(bench);
    await expect(cut?.read()).rejects.toMatchObject({ code: 'unauthorized' });
    expect((await whole.bytes()).byteLength).toBe(1_000_000);
    expect(bench.clock.pending).toBe(timers);
  });

  test('lets go of a file that it read', async () => {
    let letGo = false;
    const { bench, key } = await start({
      fileStore(store) {
        const open = store.open.bind(store);
        const cancel = () => {
          letGo = true;
        };
        store.open = async (...given) => ({
          ...(await open(...given)),
          body: new ReadableStream({ pull: () => new Promise(() => {}), cancel }),
        });
        return store;
      },
    });
    const response = await bench.ask(`/v1/files/${await upload(bench, 'x')}`, { key });
    const read = response.text();
    await revoke(bench);
    await expect(read).rejects.toMatchObject({ code: 'unauthorized' });
    expect(letGo).toBe(true);
  });
});
