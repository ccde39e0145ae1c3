import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { Agent, createServer, get } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { WebSocket } from 'ws';
import { readGatewayConfig } from '../../gateway/node/config.ts';
import { AGENT_LINK_PATH, AGENT_SUBPROTOCOL } from '../../gateway/routes/agents.ts';
import { problem } from '../../shared/api.ts';
import {
  DEAD_MS,
  HEARTBEAT_MS,
  MAX_MESSAGE_BYTES,
  MAX_MESSAGE_CHUNKS,
  MAX_MESSAGE_FRAGMENTS,
  MAX_REQUEST_BYTES,
  STREAM_WINDOW_BYTES,
} from '../../shared/limits.ts';
import { freePort } from '../fakes/free-port.ts';
import { type ServedGateway, serveTestGateway } from '../fakes/gateway-process.ts';
import { until } from '../fakes/until.ts';

test('what a gateway is asked while it begins is answered once it can, like everything else', async () => {
  const port = await freePort();
  const opening = serveTestGateway({ PORT: String(port) });
  const answers: string[] = [];
  const ask = async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/ready`).catch(() => undefined);
    if (answer) answers.push(`${answer.status} ${answer.headers.get('content-type')}`);
  };
  // From before it listens until it has begun.
  while ((await Promise.race([opening, ask()])) === undefined);
  await ask();
  expect(new Set(answers)).toEqual(new Set(['503 application/problem+json']));
});

test('a gateway that is closed waits for no document that does not come, and does not complain of it', async () => {
  const asked: Socket[] = [];
  const documents = createServer(({ socket }, response) => {
    if (asked.push(socket) === 1) response.end('{}');
  });
  documents.listen(0, '127.0.0.1');
  onTestFinished(() => documents.closeAllConnections());
  onTestFinished(() => void documents.close());
  await once(documents, 'listening');
  const { port } = documents.address() as AddressInfo;
  const served = await serveTestGateway({ PODGATE_DENY_LIST: `http://127.0.0.1:${port}/deny` });
  await until(() => asked.length === 2);
  const gone = once(asked[1] as Socket, 'close').then(() => 'gone');
  await served.running.close();
  expect(await Promise.race([gone, sleep(2_000, 'held', { ref: false })])).toBe('gone');
  expect(served.log.filter(({ event }) => event === 'deny_list_unreadable')).toEqual([]);
});

test('an agent that dials while a gateway begins is answered, and its socket does not keep the gateway from its end', async () => {
  const port = await freePort();
  const opening = serveTestGateway({ PORT: String(port) });
  const answers: Promise<string>[] = [];
  const dial = async () => {
    const socket = connect({ port, host: '127.0.0.1' });
    onTestFinished(() => void socket.destroy());
    socket.write(
      `GET ${AGENT_LINK_PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: ${AGENT_SUBPROTOCOL}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
    );
    const isTaken = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    if (isTaken) answers.push(once(socket, 'data').then(([head]) => String(head).split('\r\n', 1)[0] ?? ''));
  };
  while ((await Promise.race([opening, dial()])) === undefined);
  expect(new Set(await Promise.all(answers))).toEqual(new Set(['HTTP/1.1 101 Switching Protocols']));
  await (await opening).running.drain(1_000);
});

describe('the agents’ endpoint over real sockets', () => {
  const UPGRADE_HEAD = `GET ${AGENT_LINK_PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: podgate.v1\r\nSec-WebSocket-Version: 13\r\n`;

  async function upgrade(
    { url }: ServedGateway,
    { path = AGENT_LINK_PATH, protocols = [AGENT_SUBPROTOCOL], headers = {} } = {},
  ): Promise<number> {
    const webSocket = new WebSocket(url.replace('http', 'ws') + path, protocols, { headers });
    return new Promise((resolve) => {
      webSocket.on('open', () => {
        resolve(101);
        webSocket.terminate();
      });
      webSocket.on('unexpected-response', (_, response) => resolve(response.statusCode ?? 0));
      webSocket.on('error', () => {});
    });
  }

  test('takes agents, refuses browsers, other subprotocols and other paths', async () => {
    const served = await serveTestGateway();
    expect(await upgrade(served)).toBe(101);
    expect(await upgrade(served, { headers: { origin: 'https://evil.example' } })).toBe(403);
    expect(await upgrade(served, { headers: { origin: served.url } })).toBe(403);
    expect(await upgrade(served, { protocols: ['podgate.v2'] })).toBe(422);
    expect(await upgrade(served, { protocols: [] })).toBe(422);
    expect(await upgrade(served, { path: '/v1/execute' })).toBe(404);
    expect(await upgrade(served, { path: '/' })).toBe(404);
  });

  test('leaves a request alone that offers another protocol', async () => {
    const { url } = await serveTestGateway();
    const offered = { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABk' };
    const status = await new Promise((resolve, reject) => {
      get(`${url}/health`, { headers: offered }, ({ statusCode }) => resolve(statusCode)).on('error', reject);
    });
    expect(status).toBe(200);
  });

  test('passes over what a client expects beside 100-continue', async () => {
    const { url } = await serveTestGateway();
    const status = await new Promise((resolve, reject) => {
      get(`${url}/health`, { headers: { Expect: 'tea' } }, ({ statusCode }) => resolve(statusCode)).on(
        'error',
        reject,
      );
    });
    expect(status).toBe(200);
  });

  test('closes with the protocol’s own code what is too large, and what is text', async () => {
    const served = await serveTestGateway();
    for (const [message, code] of [
      [new Uint8Array(MAX_MESSAGE_BYTES + 1), 4413],
      [new Uint8Array(MAX_MESSAGE_BYTES), 4413],
      ['hello', 4400],
      [new Uint8Array(3), 4400],
    ] as const) {
      const webSocket = new WebSocket(served.url.replace('http', 'ws') + AGENT_LINK_PATH, [
        AGENT_SUBPROTOCOL,
      ]);
      webSocket.on('open', () => webSocket.send(message));
      const closed = await new Promise((resolve) => webSocket.on('close', resolve));
      expect(closed).toBe(code);
    }
    expect(served.running.gateway.status()).toMatchObject({ links: 0, pendingLinks: 0 });
  });

  test.each([
    [MAX_MESSAGE_FRAGMENTS, 4400],
    [MAX_MESSAGE_FRAGMENTS + 1, 4413],
  ])(
    'waits for a message in %i WebSocket frames, or closes, since each keeps what it was read with: %i',
    async (fragments, code) => {
      const served = await serveTestGateway();
      const webSocket = new WebSocket(served.url.replace('http', 'ws') + AGENT_LINK_PATH, [
        AGENT_SUBPROTOCOL,
      ]);
      await once(webSocket, 'open');
      const [closed] = await Promise.all([
        once(webSocket, 'close'),
        ...Array.from({ length: fragments }, async (_, index) =>
          webSocket.send(new Uint8Array(1), { fin: index === fragments - 1 }),
        ),
      ]);
      expect(closed[0]).toBe(code);
    },
  );

  test('waits for a message in so many pieces and no more, since each is an object', async () => {
    const served = await serveTestGateway();
    const socket = connect({ port: served.running.port, host: '127.0.0.1', noDelay: true });
    onTestFinished(() => void socket.destroy());
    socket.write(`${UPGRADE_HEAD}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`);
    await once(socket, 'data');
    const received: Buffer[] = [];
    socket.on('data', (bytes) => received.push(bytes));
    const sendPieces = async (pieces: number) => {
      for (let piece = 0; piece < pieces; piece += 1) {
        socket.write(new Uint8Array(1));
        // The gateway is in this process: in a turn of its own it reads the piece by itself.
        await nextTurn();
        await nextTurn();
      }
    };
    socket.write(Buffer.from([0x82, 0xfe, 0x3f, 0xff, 0, 0, 0, 0]));
    await sendPieces(MAX_MESSAGE_CHUNKS);
    expect(Buffer.concat(received).includes('too_large')).toBe(false);
    expect(served.running.gateway.status()).toMatchObject({ pendingLinks: 1 });
    await sendPieces(2);
    await until(() => Buffer.concat(received).includes(Buffer.from([0x11, 0x3d])));
  });

  test('reads no more than a HELLO of whoever has not joined, and waits for no message to be whole', async () => {
    const served = await serveTestGateway();
    const sockets = Array.from({ length: 4 }, () =>
      connect(served.running.port, '127.0.0.1').on('error', () => {}),
    );
    const key = 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==';
    const announced = Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]);
    const cut = Buffer.concat([announced, Buffer.alloc(MAX_MESSAGE_BYTES - 1)]);
    const closing = sockets.map(async (socket) => {
      socket.write(`${UPGRADE_HEAD}${key}\r\n\r\n`);
      await once(socket, 'data');
      socket.write(cut);
      const received: Buffer[] = [];
      socket.on('data', (bytes) => received.push(bytes));
      await new Promise((resolve) => socket.once('close', resolve));
      return Buffer.concat(received);
    });
    for (const received of await Promise.all(closing)) expect(received.includes('too_large')).toBe(true);
    expect(served.running.gateway.status()).toMatchObject({ pendingLinks: 0 });
  });

  test('survives sockets that break off at any point', async () => {
    const served = await serveTestGateway();
    const open = (bytes: string): Promise<Socket> =>
      new Promise((resolve) => {
        const socket = connect(served.running.port, '127.0.0.1', () =>
          socket.write(bytes, () => resolve(socket)),
        );
        socket.on('error', () => {});
      });
    const head = UPGRADE_HEAD;
    for (const bytes of [
      '',
      'GET',
      head,
      `${head}\r\n`,
      `${head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x82`,
    ])
      (await open(bytes)).resetAndDestroy();
    const agent = await served.agent();
    expect(agent.closed).toBeUndefined();
    await until(() => served.running.gateway.status().pendingLinks === 0);
  });
});

function executeRequest({ key }: ServedGateway, path = '/v1/execute'): string {
  const body = '{"code":"","timeout_ms":60000}';
  return `POST ${path} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer ${key}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

describe('HTTP over real sockets', () => {
  test('keeps an idle connection for longer than it tells: a request that came in time finds it open', async () => {
    const served = await serveTestGateway();
    const sockets = new Set<Socket>();
    const onRequest = (started: unknown) => void sockets.add((started as { socket: Socket }).socket);
    subscribe('http.server.request.start', onRequest);
    onTestFinished(() => void unsubscribe('http.server.request.start', onRequest));
    const { headers } = await fetch(`${served.url}/health`);
    const [, toldSeconds] = /^timeout=(\d+)$/.exec(headers.get('keep-alive') ?? '') ?? [];
    expect(sockets.size).toBe(1);
    const [socket] = sockets;
    await expect.poll(() => socket?.timeout).toBe(Number(toldSeconds) * 1_000 + 30_000);
  });

  test('runs what a caller asks, logs one line of it, and counts it', async () => {
    const served = await serveTestGateway();
    const agent = await served.agent();
    const answer = served.execute({ code: 'secret code' });
    (await agent.next()).succeed('secret output');
    const response = await answer;
    expect(await response.json()).toMatchObject({ stdout: 'secret output' });
    await until(() => served.log.some(({ event }) => event === 'execution'));
    const lines = served.log.filter(({ event }) => event === 'execution');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ outcome: 'exited', principal: 'default/tester', streamed: false });
    const everything = JSON.stringify(served.log);
    for (const secret of ['secret code', 'secret output', served.key, agent.options.identity.token])
      expect(everything).not.toContain(secret);
    const metrics = await (await fetch(`http://127.0.0.1:${served.running.metricsPort}/metrics`)).text();
    expect(metrics).toContain('podgate_gateway_executions_total{result="exited",streamed="false"} 1');
    expect(metrics).toContain('podgate_gateway_links 1');
    expect((await fetch(`${served.url}/metrics`)).status).toBe(404);
  });

  test('gives a client that sends too much the answer, and not a broken pipe', async () => {
    const served = await serveTestGateway();
    await served.agent();
    const size = MAX_REQUEST_BYTES + 10_000_000;
    const body = new ReadableStream({
      start(controller) {
        for (let sent = 0; sent < size; sent += 1_000_000)
          controller.enqueue(new Uint8Array(1_000_000).fill(0x20));
        controller.close();
      },
    });
    for (const each of [new Uint8Array(size).fill(0x20), body]) {
      const response = await fetch(`${served.url}/v1/execute`, {
        method: 'POST',
        headers: { authorization: `Bearer ${served.key}`, connection: 'close' },
        body: each,
        duplex: 'half',
      } as RequestInit);
      expect(problem.parse(await response.json())).toMatchObject({ status: 413, code: 'too_large' });
    }
  });

  test.for([
    ['without a key', 401, { authorization: '' }, '/v1/execute'],
    ['to nowhere', 404, {}, '/v1/nowhere'],
    ['by a method that is not served', 405, {}, '/v1/clusters'],
    ['that is no form', 422, { 'content-type': 'text/plain' }, '/v1/files'],
    ['over the rate', 429, { authorization: 'limited' }, '/v1/execute'],
    ['for a key that is none', 422, { 'idempotency-key': 'a b' }, '/v1/execute'],
  ] as const)('gives a large request %s its %d, and not a broken pipe', async ([, status, headers, path]) => {
    const served = await serveTestGateway();
    const limited = await served.issue({ limits: { requests_per_minute: 1 } });
    await served.execute({ code: '' }, '/v1/execute', { headers: { authorization: `Bearer ${limited}` } });
    const { authorization = served.key, ...rest } = headers as Record<string, string>;
    const key = authorization === 'limited' ? limited : authorization;
    const answer = await sendWhole(served.running.port, path, 30_000_000, {
      ...(key && { authorization: `Bearer ${key}` }),
      ...rest,
    });
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(answer).toContain('"code":');
  });

  test.for([
    ['that is no HTTP', 400, 'malformed_request', 'nonsense\r\n\r\n'],
    ['without a Host', 400, 'malformed_request', 'GET /health HTTP/1.1\r\nConnection: close\r\n\r\n'],
    [
      'for a Host that is none',
      400,
      'malformed_request',
      'GET /health HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n',
    ],
    [
      'with headers beyond their bound',
      431,
      'headers_too_large',
      `GET / HTTP/1.1\r\nX: ${'x'.repeat(200_000)}`,
    ],
  ] as const)('answers a request %s with %d as problem+json', async ([, status, code, bytes]) => {
    const { running } = await serveTestGateway();
    const socket = connect(running.port, '127.0.0.1', () => socket.write(bytes));
    const answer = await text(socket);
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expect(head).toContain(`HTTP/1.1 ${status} `);
    expect(head.toLowerCase()).toContain('content-type: application/problem+json');
    const [, request_id] = /\r\nX-Request-Id: ([\w-]{20})\r\n/i.exec(head) ?? [];
    expect(problem.parse(JSON.parse(body))).toMatchObject({ status, code, retryable: false, request_id });
  });

  test('answers HTTP/1.0, which needs no Host: balancers ask for health in it', async () => {
    const { running } = await serveTestGateway();
    const socket = connect(running.port, '127.0.0.1', () => socket.write('GET /health HTTP/1.0\r\n\r\n'));
    const [head, body = ''] = (await text(socket)).split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(JSON.parse(body)).toMatchObject({ version: expect.any(String) });
  });

  test('cancels what a caller leaves, plain or streamed', async () => {
    const served = await serveTestGateway();
    const agent = await served.agent();
    for (const path of ['/v1/execute', '/v1/execute/stream']) {
      const leave = new AbortController();
      const answer = served.execute({ code: '', timeout_ms: 60_000 }, path, { signal: leave.signal });
      const execution = (await agent.next()).begin().out('x');
      if (path.endsWith('stream')) await (await answer).body?.getReader().read();
      leave.abort();
      await answer.catch(() => {});
      await until(() => execution.cancelled !== undefined);
      expect(execution.cancelled).toBe('cancelled');
      execution.fail('cancelled', 'yes');
    }
    await until(() => served.running.gateway.status().running === 0);
  });

  test('sends the first output at once, and the head before any', async () => {
    const served = await serveTestGateway();
    const agent = await served.agent();
    const answer = served.execute({ code: '' }, '/v1/execute/stream');
    const execution = (await agent.next()).begin();
    const response = await answer;
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    const reader = response.body?.getReader();
    for (const text of ['one', 'two']) {
      execution.out(text);
      expect(new TextDecoder().decode((await reader?.read())?.value)).toContain(text);
    }
    execution.exit();
    expect(new TextDecoder().decode((await reader?.read())?.value)).toMatch(/^event: result\n/);
    expect((await reader?.read())?.done).toBe(true);
  });

  test('holds a program back whose reader stalls, in bounded memory, beside others that run', async () => {
    const served = await serveTestGateway({ MAX_OUTPUT_BYTES: '2000000000' });
    const agent = await served.agent({ slots: 50 });
    const socket = connect(served.running.port, '127.0.0.1');
    socket.pause();
    const body = JSON.stringify({ code: '', timeout_ms: 60_000 });
    socket.write(
      `POST /v1/execute/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${served.key}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const stalled = (await agent.next()).begin();
    const total = 64 * 1_048_576;
    const chunk = new Uint8Array(1_048_576).fill(0x78);
    for (let sent = 0; sent < total; sent += chunk.byteLength) stalled.out(chunk);
    for (let count = 0; count < 20; count += 1) {
      const answer = served.execute({ code: '' });
      (await agent.next()).succeed('fine');
      expect(await (await answer).json()).toMatchObject({ stdout: 'fine' });
    }
    // Sockets take their share; beyond it and the stream's window nothing leaves the agent.
    const left = total - agent.peer.outbox.queuedBytes(stalled.stream);
    expect(left).toBeGreaterThanOrEqual(STREAM_WINDOW_BYTES);
    await sleep(100);
    expect(total - agent.peer.outbox.queuedBytes(stalled.stream)).toBeLessThan(16 * 1_048_576);
    socket.destroy();
    await until(() => stalled.cancelled !== undefined);
  });

  test('answers 32 requests that come one behind the other, and cuts off who sends one more before the first is answered', async () => {
    const served = await serveTestGateway();
    const agent = await served.agent();
    const health = (connection: string) =>
      `GET /health HTTP/1.1\r\nHost: a\r\nConnection: ${connection}\r\n\r\n`;
    const begin = async () => {
      const socket = connect(served.running.port);
      socket.write(executeRequest(served));
      return { socket, answers: text(socket), execution: (await agent.next()).begin() };
    };
    const allowed = await begin();
    allowed.socket.write(health('keep-alive').repeat(30) + health('close'));
    allowed.execution.exit();
    expect((await allowed.answers).match(/HTTP\/1\.1 200 /g)).toHaveLength(32);

    const flooding = await begin();
    flooding.socket.write(health('keep-alive').repeat(32));
    expect(await flooding.answers).toBe('');
    await until(() => flooding.execution.cancelled !== undefined);
  });

  test('bounds headers', async () => {
    const served = await serveTestGateway();
    const response = await fetch(`${served.url}/health`, { headers: { 'x-large': 'x'.repeat(40_000) } });
    expect(response.status).toBe(431);
  });

  test('stores files in its folder and gives them to programs', async () => {
    const served = await serveTestGateway();
    const agent = await served.agent();
    const form = new FormData();
    form.set('file', new Blob(['content']), 'data.csv');
    const headers = { authorization: `Bearer ${served.key}` };
    const uploaded = await fetch(`${served.url}/v1/files`, { method: 'POST', headers, body: form });
    expect(uploaded.status).toBe(201);
    const { file_id } = (await uploaded.json()) as { file_id: string };
    const answer = served.execute({ code: '', files: [{ path: 'data.csv', file_id }] });
    const execution = await agent.next();
    expect((await execution.input()).files).toBe('content');
    execution.begin().file('out.txt', 'made').exit();
    const { files } = (await (await answer).json()) as { files: { file_id: string }[] };
    const made = await fetch(`${served.url}/v1/files/${files[0]?.file_id}`, { headers });
    expect(await made.text()).toBe('made');
  });
});

describe('a drain over real sockets', () => {
  /** How many requests have reached servers of this process from now on. */
  const countRequests = () => {
    let count = 0;
    const onRequest = () => {
      count += 1;
    };
    subscribe('http.server.request.start', onRequest);
    onTestFinished(() => void unsubscribe('http.server.request.start', onRequest));
    return () => count;
  };

  test('lets what runs end, then closes everything', async () => {
    const served = await serveTestGateway();
    const agent = await served.agent();
    const answer = served.execute({ code: '', timeout_ms: 60_000 });
    const execution = (await agent.next()).begin();
    await until(() => served.running.gateway.status().running === 1);
    const drained = served.running.drain(20_000);
    await agent.seen('GOAWAY');
    const refused = await served.execute({ code: '' });
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    execution.out('whole').exit();
    expect(await (await answer).json()).toMatchObject({ stdout: 'whole' });
    await drained;
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4503);
    await expect(served.execute({ code: '' })).rejects.toThrow();
  });

  test('with a delay is not ready at once, and ends each connection with an answer', async () => {
    const served = await serveTestGateway();
    const agent = await served.agent();
    const drained = served.running.drain(20_000, 300);
    expect((await fetch(`${served.url}/ready`)).status).toBe(503);
    expect(served.running.gateway.acceptsLinks()).toBe(false);
    const answer = served.execute({ code: '' });
    (await agent.next()).succeed('taken');
    const response = await answer;
    expect([response.status, response.headers.get('connection')]).toEqual([200, 'close']);
    expect(await response.json()).toMatchObject({ stdout: 'taken' });
    await agent.seen('GOAWAY');
    await drained;
  });

  test('of one replica of several takes no connection after the delay, while what runs ends', async () => {
    const served = await serveTestGateway({ PODGATE_REPLICAS: '2', PODGATE_FILE_STORE: 'none' });
    const agent = await served.agent();
    const answer = served.execute({ code: '', timeout_ms: 60_000 });
    const execution = (await agent.next()).begin();
    const drained = served.running.drain(20_000);
    await agent.seen('GOAWAY');
    // What waits in the kernel is taken first.
    await expect.poll(() => refusalOf(served.running.port)).toBe('ECONNREFUSED');
    execution.out('whole').exit();
    expect(await (await answer).json()).toMatchObject({ stdout: 'whole' });
    await drained;
  });

  test('of one replica of several takes what is asked on a connection that it had when it stopped listening', async () => {
    const served = await serveTestGateway(
      { PODGATE_REPLICAS: '2', PODGATE_FILE_STORE: 'none' },
      { lastRequestMs: 3_000 },
    );
    const agent = await served.agent();
    const socket = connect(served.running.port, '127.0.0.1');
    await once(socket, 'connect');
    const drained = served.running.drain(20_000, 50);
    await expect.poll(() => refusalOf(served.running.port)).toBe('ECONNREFUSED');
    const body = '{"code":""}';
    socket.write(
      `POST /v1/execute HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer ${served.key}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    (await agent.next()).succeed('taken');
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*"stdout":"taken"/);
    await drained;
  });

  test('of one replica of several takes what was asked in time, though it had no turn until the time was over', async () => {
    const lastRequestMs = 1_000;
    const served = await serveTestGateway(
      { PODGATE_REPLICAS: '2', PODGATE_FILE_STORE: 'none' },
      { lastRequestMs },
    );
    const agent = await served.agent();
    const socket = connect(served.running.port, '127.0.0.1');
    await once(socket, 'connect');
    const drained = served.running.drain(20_000);
    await expect.poll(() => refusalOf(served.running.port)).toBe('ECONNREFUSED');
    const body = '{"code":""}';
    socket.write(
      `POST /v1/execute HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer ${served.key}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    // A machine with too much to do: neither this process nor the gateway in it has a turn.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, lastRequestMs);
    (await agent.next()).succeed('taken');
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*"stdout":"taken"/);
    await drained;
  });

  test('of one replica of several tells whoever asks on a connection that it keeps, while what runs ends and a moment after', async () => {
    const served = await serveTestGateway(
      { PODGATE_REPLICAS: '2', PODGATE_FILE_STORE: 'none' },
      { lastRequestMs: 3_000 },
    );
    const agent = await served.agent();
    const answer = served.execute({ code: '', timeout_ms: 60_000 });
    const execution = (await agent.next()).begin();
    const kept = await Promise.all(
      Array.from({ length: 2 }, async () => {
        const socket = connect(served.running.port, '127.0.0.1');
        socket.write('GET /health HTTP/1.1\r\nHost: gate\r\n\r\n');
        expect(String(await once(socket, 'data'))).toContain('Connection: keep-alive');
        return socket;
      }),
    );
    const drained = served.running.drain(20_000);
    await agent.seen('GOAWAY');
    const ask = async (socket: Socket | undefined) => {
      if (!socket) throw new Error('there is none');
      socket.write(
        `POST /v1/execute HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer ${served.key}\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"code":""}`,
      );
      expect(await text(socket)).toMatch(/^HTTP\/1\.1 503 [\s\S]*Connection: close[\s\S]*"code":"draining"/i);
    };
    await ask(kept[0]);
    execution.exit();
    expect((await answer).status).toBe(200);
    await ask(kept[1]);
    await drained;
  });

  test('of one replica of several has a last word on idle connections: what is asked in the instant of their end is answered', async () => {
    const served = await serveTestGateway({ PODGATE_REPLICAS: '2', PODGATE_FILE_STORE: 'none' });
    const socket = connect(served.running.port, '127.0.0.1');
    socket.write('GET /health HTTP/1.1\r\nHost: gate\r\n\r\n');
    await once(socket, 'data');
    socket.pause();
    const client = new Agent({ keepAlive: true, timeout: 60_000 });
    onTestFinished(() => client.destroy());
    const unasked = await new Promise<number | undefined>((resolve, reject) => {
      const request = get({ port: served.running.port, path: '/health', agent: client }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode));
      });
      request.on('error', reject);
    });
    expect(unasked).toBe(200);
    await served.running.drain(20_000);
    // Whoever did not see the end yet, as it had no turn.
    socket.on('error', () => {});
    socket.write('POST /v1/execute HTTP/1.1\r\nHost: gate\r\nContent-Length: 2\r\n\r\n{}');
    let heard = '';
    socket.on('data', (chunk) => {
      heard += chunk;
    });
    socket.resume();
    await once(socket, 'close');
    expect(heard).toMatch(/^HTTP\/1\.1 503 [\s\S]*Connection: close[\s\S]*"code":"draining"/i);
    // A client that asked nothing drops its connection, and takes what came for no answer.
    await expect.poll(() => Object.keys(client.freeSockets)).toEqual([]);
  });

  test.for(['1', '2'])(
    'of %s replicas answers whoever was connected before it stopped listening, however many at once',
    async (replicas) => {
      const served = await serveTestGateway({ PODGATE_REPLICAS: replicas, PODGATE_FILE_STORE: 'none' });
      const asked = Array.from({ length: 100 }, async () => {
        const socket = connect(served.running.port, '127.0.0.1');
        socket.write('GET /health HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n');
        return (await text(socket)).split('\r\n', 1)[0];
      });
      // The kernel has them all; the gateway has had no turn to take one.
      const drained = served.running.drain(20_000);
      expect(new Set(await Promise.all(asked))).toEqual(new Set(['HTTP/1.1 200 OK']));
      await drained;
    },
  );

  test('answers each of two requests that come one behind the other, and ends their connection with the second', async () => {
    const served = await serveTestGateway();
    const agent = await served.agent();
    const socket = connect(served.running.port, '127.0.0.1');
    const answers = text(socket);
    const asked = countRequests();
    socket.write(executeRequest(served) + executeRequest(served));
    const [first, second] = [(await agent.next()).begin(), (await agent.next()).begin()];
    const drained = served.running.drain(20_000);
    await agent.seen('GOAWAY');
    socket.write(executeRequest(served));
    await until(() => asked() === 3);
    second.out('second').exit();
    first.out('first').exit();
    const [, ...each] = (await answers).split('HTTP/1.1 ');
    const shown = each.map((answer) =>
      answer.match(/^\d+|(?<=connection: )[\w-]+|first|second|"draining"/gi),
    );
    expect(shown).toEqual([
      ['200', 'keep-alive', 'first'],
      ['200', 'keep-alive', 'second'],
      ['503', 'close', '"draining"'],
    ]);
    await drained;
  });

  test('begins nothing that is asked behind an answer which was told to be the last', async () => {
    const served = await serveTestGateway();
    const agent = await served.agent();
    const drained = served.running.drain(20_000, 60_000);
    const socket = connect(served.running.port, '127.0.0.1');
    const closed = once(socket, 'close');
    let heard = '';
    socket.on('data', (chunk) => {
      heard += chunk;
    });
    socket.write(executeRequest(served, '/v1/execute/stream'));
    const execution = (await agent.next()).begin();
    await until(() => heard.includes('\r\n\r\n'));
    const asked = countRequests();
    socket.write(executeRequest(served));
    await until(() => asked() === 1);
    execution.out('told').exit();
    await closed;
    expect(heard.match(/^HTTP\/1.1 .*|told/gm)).toEqual(['HTTP/1.1 200 OK', 'told']);
    await served.running.close();
    await drained;
    expect(served.log.filter(({ event }) => event === 'execution')).toHaveLength(1);
  });

  test('is not held up by who was refused an upgrade and does not close its connection', async () => {
    const served = await serveTestGateway();
    const paths = [AGENT_LINK_PATH, '/v1/nothing', '/v1/sessions/s/terminal'];
    await Promise.all(paths.map((path) => refusedUpgrade(served, path)));
    await served.running.drain(1_000);
  });

  test('lets files that are on their way arrive, and takes no connection meanwhile', async () => {
    const served = await serveTestGateway({}, { closeMs: 0 });
    const content = 'x'.repeat(16_777_216);
    const { file_id } = (await (await uploadOf(served, new Blob([content]).stream())).json()) as FileAnswer;
    const headers = { authorization: `Bearer ${served.key}` };
    const download = await fetch(`${served.url}/v1/files/${file_id}`, { headers });
    const file = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
    const writer = file.writable.getWriter();
    const uploaded = uploadOf(served, file.readable);
    await writer.write(Buffer.alloc(1_048_576));
    const drained = served.running.drain(60_000);
    while ((await refusalOf(served.running.port)) === 'none');
    expect(await download.text()).toBe(content);
    await writer.close();
    expect(await (await uploaded).json()).toMatchObject({ size_bytes: 1_048_576 });
    await drained;
  });

  test('cuts what has not arrived at its deadline', async () => {
    const served = await serveTestGateway({}, { closeMs: 0 });
    const file = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
    const uploaded = uploadOf(served, file.readable);
    uploaded.catch(() => {});
    await file.writable.getWriter().write(Buffer.alloc(1_048_576));
    await served.running.drain(50);
    await expect(uploaded).rejects.toThrow();
  });

  test('is over at once when it is closed meanwhile', async () => {
    const served = await serveTestGateway();
    const drained = served.running.drain(20_000, 20_000);
    await served.running.close();
    await drained;
  });
});

type FileAnswer = { file_id: string; size_bytes: number };

/** Sends a form with one file as its bytes come. */
function uploadOf(
  { url, key }: ServedGateway,
  file: ReadableStream<Uint8Array<ArrayBuffer>>,
): Promise<Response> {
  async function* form() {
    yield Buffer.from('--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n');
    yield* file;
    yield Buffer.from('\r\n--b--\r\n');
  }
  return fetch(`${url}/v1/files`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'multipart/form-data; boundary=b' },
    body: ReadableStream.from(form()),
    duplex: 'half',
  });
}

function refusalOf(port: number): Promise<string> {
  return connected(port).then(
    () => 'none',
    ({ code }) => code,
  );
}

async function connected(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
  } finally {
    socket.destroy();
  }
}

describe('a gateway without a file store', () => {
  test('takes inline files, refuses uploads, knows no id, and names what it could not keep', async () => {
    const served = await serveTestGateway({ PODGATE_FILE_STORE: 'none' });
    const agent = await served.agent();
    const headers = { authorization: `Bearer ${served.key}` };
    const form = new FormData();
    form.set('file', new Blob(['content']), 'data.csv');
    const upload = await fetch(`${served.url}/v1/files`, { method: 'POST', headers, body: form });
    expect([upload.status, await upload.json()]).toEqual([
      501,
      expect.objectContaining({ code: 'not_implemented' }),
    ]);
    expect(await (await fetch(`${served.url}/v1/files`, { headers })).json()).toMatchObject({ files: [] });
    const id = crypto.randomUUID();
    const missing = await served.execute({ code: '', files: [{ path: 'a', file_id: id }] });
    expect([missing.status, await missing.json()]).toEqual([
      404,
      expect.objectContaining({ detail: `File with ID '${id}' not found for path 'a'.` }),
    ]);
    const answer = served.execute({ code: '', files: [{ path: 'in.txt', content: 'inline' }] });
    const execution = await agent.next();
    expect((await execution.input()).files).toBe('inline');
    execution.begin().file('out.txt', 'made').exit();
    expect(await (await answer).json()).toMatchObject({
      files: [],
      files_omitted: [{ path: 'out.txt', reason: 'not_stored' }],
      files_omitted_count: 1,
    });
  });
});

describe('the configuration', () => {
  const ISSUERS = { PODGATE_ISSUERS: 'issuers.json' };

  test('has the defaults that API.md names', () => {
    const config = readGatewayConfig({ environment: ISSUERS });
    expect(config).toMatchObject({
      host: '127.0.0.1',
      port: 8000,
      denyList: null,
      idKeysFile: null,
      origins: [],
      files: { limits: { maxFileBytes: 104_857_600, ttlMs: 3_600_000 } },
      gateway: {
        maxTimeoutMs: 60_000,
        maxOutputBytes: 1_000_000,
        replicas: 1,
        heartbeatMs: HEARTBEAT_MS,
        deadMs: DEAD_MS,
      },
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  test('reads what is set', () => {
    expect(
      readGatewayConfig({
        environment: {
          ...ISSUERS,
          PODGATE_DENY_LIST: 'https://deny.example/list',
          PODGATE_ORIGINS: 'https://Gate.example:443, wss://other.example/x',
          MAX_FILE_SIZE_MB: '5',
          PODGATE_METRICS_PORT: '0',
        },
      }),
    ).toMatchObject({
      denyList: { url: 'https://deny.example/list' },
      origins: ['https://gate.example', 'https://other.example'],
      gateway: { maxFileBytes: 5_242_880 },
    });
  });

  test('tells one replica from several: those keep no files and let balancers look elsewhere first', () => {
    const read = (environment: Record<string, string>) =>
      readGatewayConfig({ environment: { ...ISSUERS, ...environment } });
    expect(read({})).toMatchObject({ drainDelayMs: 0, files: expect.anything() });
    const keyless = { PODGATE_REPLICAS: '2', PODGATE_FILE_STORE: 'none' };
    const several = { ...keyless, PODGATE_ID_KEYS: 'ids.json' };
    expect(read(several)).toMatchObject({ drainDelayMs: 2_000, files: null, gateway: { replicas: 2 } });
    expect(read({ ...several, PODGATE_DRAIN_DELAY_MS: '0' }).drainDelayMs).toBe(0);
    expect(() => read({ PODGATE_REPLICAS: '2' })).toThrow('PODGATE_FILE_STORE=none');
    // Ids of the one would be none at the other.
    expect(() => read(keyless)).toThrow('PODGATE_ID_KEYS');
  });

  test.for([
    ['PORT', '99999'],
    ['PORT', '8o00'],
    ['MAX_EXEC_TIMEOUT_MS', '0'],
    ['MAX_OUTPUT_BYTES', '-1'],
    ['FILE_TTL_SEC', '1h'],
    ['PODGATE_ORIGINS', 'gate.example'],
    ['PODGATE_REPLICAS', '2'],
    ['PODGATE_HEARTBEAT_MS', '999'],
    ['PODGATE_HEARTBEAT_MS', '30001'],
    ['PODGATE_REPLICAS', 'many'],
    ['PODGATE_ISUERS', 'typo'],
  ] as const)('stops at %s=%s with name and value', ([name, value]) => {
    const read = () => readGatewayConfig({ environment: { ...ISSUERS, [name]: value } });
    expect(read).toThrow(name);
    if (name !== 'PODGATE_ISUERS') expect(read).toThrow(`'${value}'`);
  });

  test.for([
    'http://deny.example/list',
    'ftp://deny.example/list',
    'file:///etc/podgate/deny.json',
    'https://operator:hush@deny.example/list',
    'https:operator:hush@deny.example/list',
    'https://hush@deny.example/list',
    'https://operator:hush@',
    'HTTP://127.0.0.1.evil.example/list',
  ])('stops at a deny-list at %s, and shows nothing of it', (list) => {
    const read = () => readGatewayConfig({ environment: { ...ISSUERS, PODGATE_DENY_LIST: list } });
    expect(read).toThrow(
      'PODGATE_DENY_LIST: what it is set to is not accepted: use the path of a file or an https:// URL',
    );
    expect(read).not.toThrow(/hush|deny\.|evil/);
  });

  test.for<[string, object]>([
    ['/etc/podgate/deny.json', { file: '/etc/podgate/deny.json' }],
    ['keys/deny list.json', { file: 'keys/deny list.json' }],
    ['HTTPS://deny.example/list', { url: 'HTTPS://deny.example/list' }],
    ['http://127.0.0.1:9/list', { url: 'http://127.0.0.1:9/list' }],
  ])('reads a deny-list from %s', ([list, source]) => {
    const { denyList } = readGatewayConfig({ environment: { ...ISSUERS, PODGATE_DENY_LIST: list } });
    expect(denyList).toEqual(source);
  });

  test('stops without issuers', () => {
    expect(() => readGatewayConfig({ environment: {} })).toThrow('PODGATE_ISSUERS is not set');
  });
});

/** A client that sends all of its request before it listens. Resolves to the whole answer. */
async function sendWhole(port: number, path: string, bytes: number, headers: Record<string, string>) {
  const socket = connect(port, '127.0.0.1');
  const fields = { Host: 'x', 'Content-Length': bytes, Connection: 'close', ...headers };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
  socket.write(`POST ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
  const chunk = new Uint8Array(1_000_000).fill(0x20);
  for (let sent = 0; sent < bytes; sent += chunk.byteLength)
    if (!socket.write(chunk.subarray(0, bytes - sent))) await once(socket, 'drain');
  return text(socket);
}

/** A connection whose upgrade was answered with a refusal, and that stays open at this end. */
async function refusedUpgrade({ url }: ServedGateway, path: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => {});
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: other\r\n\r\n`,
  );
  const [head] = await once(socket, 'data');
  expect(String(head)).toMatch(/^HTTP\/1\.1 4\d\d /);
  return socket;
}
