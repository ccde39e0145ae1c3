import { describe, expect, test, vi } from 'vitest';
import { MAX_GRANTS } from '../../gateway/clusters/grants.ts';
import { COMEBACK_MS } from '../../gateway/clusters/instance.ts';
import { REFRESH_AHEAD_MS } from '../../gateway/link/token-watch.ts';
import { encodeBody } from '../../shared/control.ts';
import { encodeFrame, type Frame } from '../../shared/frame.ts';
import { TYPE } from '../../shared/frame-type.ts';
import {
  HELLO_TIMEOUT_MS,
  LINK_WINDOW_BYTES,
  MAX_CONTROL_BYTES,
  MAX_DATA_BYTES,
  MAX_HELLO_BYTES,
  MAX_MESSAGE_BYTES,
  RECORD_TTL_MS,
} from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import { createGatewayBench } from '../fakes/gateway-bench.ts';
import { announceCluster, type Door, MockAgent, RESULT } from '../fakes/mock-agent.ts';
import { until } from '../fakes/until.ts';

describe('joining', () => {
  test('takes CHALLENGE, HELLO and WELCOME', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    expect(agent.received[0]).toMatchObject({
      name: 'CHALLENGE',
      body: { server_id: 'server-1', min_version: 1, max_version: 1 },
    });
    expect(agent.received[1]).toMatchObject({
      name: 'WELCOME',
      body: { version: 1, server_id: 'server-1', replicas: 1, heartbeat_ms: 10_000, dead_ms: 25_000 },
    });
    expect(bench.gateway.status()).toMatchObject({ links: 1, pendingLinks: 0 });
  });

  test('gives every socket a nonce of its own', async () => {
    const bench = await createGatewayBench();
    const agents = [
      await bench.agent({ instance: 'instance-1' }),
      await bench.agent({ instance: 'instance-2' }),
    ];
    const nonces = agents.map(({ received }) => (received[0]?.body as { nonce: string } | undefined)?.nonce);
    expect(new Set(nonces).size).toBe(2);
    expect(nonces[0]).toMatch(/^[\w-]{43}$/);
  });

  test.for<[string, Parameters<Awaited<ReturnType<typeof createGatewayBench>>['agent']>[0], number]>([
    ['a token that is none', { hello: { token: 'nonsense' } }, 4401],
    ['a stolen token without its key', { stolen: true }, 4401],
    ['a signature that is none', { hello: { signature: 'AAAA' } }, 4401],
    ['a time that was not signed', { hello: { time: 1 } }, 4401],
    ['an instance that was not signed', { hello: { instance: 'another-one' } }, 4401],
    ['the origin of another gateway', { origin: 'https://evil.example' }, 4401],
    ['a token that has ended', { claims: { iat: 1, exp: 2 } }, 4401],
    ['a token for callers', { claims: { aud: 'podgate' } }, 4401],
    ['a cluster that the token does not allow', { claims: { clusters: ['other', 'o*'] } }, 4403],
    ['a version from the future', { hello: { min_version: 2, max_version: 9 } }, 4426],
  ])('is refused with %s', async ([, options, code]) => {
    const bench = await createGatewayBench();
    const agent = await bench.agent(options);
    expect(agent.closed?.code).toBe(code);
    expect(bench.gateway.status()).toMatchObject({ links: 0, pendingLinks: 0 });
    expect(await (await bench.ask('/health')).json()).toMatchObject({ status: 'error' });
  });

  test("is refused with another agent's signature, replayed", async () => {
    const bench = await createGatewayBench();
    let recorded: FromAgent['HELLO'] | undefined;
    const honest = await bench.agent({
      onChallenge: async (agent, { nonce }) => {
        const proof = await agent.options.identity.prove(nonce, agent.instance, bench.clock.wall());
        recorded = {
          min_version: 1,
          max_version: 1,
          token: agent.options.identity.token,
          instance: agent.instance,
          ...proof,
          software: 'x',
          clusters: ['lab'],
        };
        agent.send('HELLO', recorded);
      },
    });
    expect(honest.closed).toBeUndefined();
    const thief = await bench.agent({
      onChallenge: (agent) => agent.send('HELLO', recorded as FromAgent['HELLO']),
    });
    expect(thief.closed?.code).toBe(4401);
  });

  test('is over when HELLO does not come in time', async () => {
    const bench = await createGatewayBench();
    const identity = await bench.identity();
    const agent = new MockAgent(bench.gateway, { identity, now: bench.deps.now, onChallenge: () => {} });
    expect(bench.gateway.status().pendingLinks).toBe(1);
    await bench.clock.advance(HELLO_TIMEOUT_MS - 1);
    expect(agent.closed).toBeUndefined();
    await bench.clock.advance(1);
    expect(agent.closed?.code).toBe(4408);
    expect(bench.gateway.status().pendingLinks).toBe(0);
  });

  test('ends the wait for HELLO: no timer but that of its heartbeats is left', async () => {
    const bench = await createGatewayBench();
    const idle = bench.clock.pending;
    await bench.agent();
    await bench.clock.settle();
    expect(bench.clock.pending).toBe(idle + 1);
  });

  test('is bounded by the links that have not joined', async () => {
    const bench = await createGatewayBench({ config: { maxPendingLinks: 1 } });
    expect(bench.gateway.acceptsLinks()).toBe(true);
    const identity = await bench.identity();
    new MockAgent(bench.gateway, { identity, now: bench.deps.now, onChallenge: () => {} });
    expect(bench.gateway.acceptsLinks()).toBe(false);
  });

  test('of anything but HELLO is a protocol error', async () => {
    const bench = await createGatewayBench();
    for (const name of ['HEARTBEAT', 'SLOTS', 'DRAIN'] as const) {
      const bodies = {
        HEARTBEAT: { id: 1, reply: false, echo: null, running: 0 },
        SLOTS: { grants: [], clusters: null },
        DRAIN: { deadline_ms: 1 },
      };
      const agent = await bench.agent({ onChallenge: (self) => self.send(name, bodies[name] as never) });
      expect(agent.closed?.code).toBe(4400);
    }
  });

  test.for([
    ['HELLO', undefined],
    ['HEARTBEAT', { id: 1, reply: true, echo: null, running: 0 }],
    ['SLOTS', { grants: [], clusters: null }],
    ['DRAIN', { deadline_ms: 1 }],
    ['AUTH_REFRESH', { token: 'x', time: 1, signature: 'x' }],
    ['STATUS', { ref: 1, execution_id: 'x', state: 'unknown', record: null }],
  ] as const)(
    'has nothing said behind HELLO before WELCOME: %s is a protocol error',
    async ([name, body]) => {
      const bench = await createGatewayBench();
      const agent = await bench.agent({
        onChallenge: async (self, challenge) => {
          await self.hello(challenge);
          if (body) self.send(name, body as never);
          else await self.hello(challenge);
        },
      });
      await until(() => agent.closed !== undefined);
      expect(agent.closed?.code).toBe(4400);
      expect(agent.received.map((message) => message.name)).toEqual(['CHALLENGE']);
      expect(bench.gateway.status()).toMatchObject({ links: 0, pendingLinks: 0 });
    },
  );

  test('twice on one link is a protocol error', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    await agent.hello({ nonce: 'x'.repeat(43), server_id: 's', min_version: 1, max_version: 1 });
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4400);
  });
});

describe('instances', () => {
  test('keep two links; a third takes the place of the one that was silent longest', async () => {
    const bench = await createGatewayBench();
    const identity = await bench.identity();
    const first = await bench.agent({ identity });
    const second = await bench.agent({ identity });
    await bench.clock.advance(10);
    first.send('HEARTBEAT', { id: 1, reply: false, echo: null, running: 0 });
    await bench.clock.settle();
    await bench.agent({ identity });
    await until(() => second.closed !== undefined);
    expect(second.closed).toEqual({ code: 4409, reason: 'replaced' });
    expect(first.closed).toBeUndefined();
    expect(bench.gateway.status().links).toBe(2);
  });

  test('belong to the key that they first joined with', async () => {
    const bench = await createGatewayBench();
    await bench.agent();
    const impostor = await bench.agent({ claims: { sub: 'agent' } });
    expect(impostor.closed?.code).toBe(4403);
  });

  test('belong to the subject that they first joined with, also where another has the same key', async () => {
    const bench = await createGatewayBench();
    const { options } = await bench.agent();
    const { cnf } = JSON.parse(atob(options.identity.token.split('.')[1] ?? ''));
    const token = await bench.agents.sign({ claims: { sub: 'other', clusters: ['*'], cnf } });
    const impostor = await bench.agent({ identity: { ...options.identity, token } });
    expect(impostor.closed?.code).toBe(4403);
  });

  test('are at most as many as the token says', async () => {
    const bench = await createGatewayBench();
    const identity = await bench.identity({ claims: { max_instances: 1 } });
    const first = await bench.agent({ identity, instance: 'instance-1' });
    expect((await bench.agent({ identity, instance: 'instance-1' })).closed).toBeUndefined();
    expect((await bench.agent({ identity, instance: 'instance-2' })).closed?.code).toBe(4403);
    expect(first.closed).toBeUndefined();
    // Whoever was refused has not joined, and leaves nothing.
    expect(bench.log.map(({ event }) => event)).toEqual(['link_joined', 'link_joined', 'link_refused']);
  });

  test.for([
    ['are gone', (link: MockAgent) => link.cut()],
    ['drain', (link: MockAgent) => link.send('DRAIN', { deadline_ms: 1_000 })],
  ] as const)('that %s make room for as many others', async ([, leave]) => {
    const bench = await createGatewayBench();
    const identity = await bench.identity({ claims: { max_instances: 1 } });
    const links = [
      await bench.agent({ identity, instance: 'instance-1' }),
      await bench.agent({ identity, instance: 'instance-1' }),
    ];
    links.forEach(leave);
    await bench.clock.settle();
    expect((await bench.agent({ identity, instance: 'instance-2' })).closed).toBeUndefined();
    expect((await bench.agent({ identity, instance: 'instance-3' })).closed?.code).toBe(4403);
  });

  test('of one token leave those of another alone', async () => {
    const bench = await createGatewayBench();
    const identity = await bench.identity({ claims: { max_instances: 1 } });
    await bench.agent({ identity, instance: 'instance-1' });
    expect((await bench.agent({ instance: 'instance-2' })).closed).toBeUndefined();
  });

  test("are bounded by their tenant's links, at the limit and one past it", async () => {
    const bench = await createGatewayBench({ config: { maxLinksPerTenant: 3 } });
    const identity = await bench.identity();
    for (const instance of ['instance-1', 'instance-1', 'instance-2'])
      expect((await bench.agent({ identity, instance })).closed).toBeUndefined();
    for (const instance of ['instance-2', 'instance-3'])
      expect((await bench.agent({ identity, instance })).closed?.code).toBe(4403);
  });

  test('that are away and may come back are as many as links may be', async () => {
    const bench = await createGatewayBench({ config: { maxLinksPerTenant: 2 } });
    const identity = await bench.identity();
    for (const instance of ['instance-1', 'instance-2']) (await bench.agent({ identity, instance })).cut();
    expect((await bench.agent({ identity, instance: 'instance-3' })).closed?.code).toBe(4403);
    expect((await bench.agent({ identity, instance: 'instance-2' })).closed).toBeUndefined();
    await bench.clock.advance(RECORD_TTL_MS);
    expect((await bench.agent({ identity, instance: 'instance-3' })).closed).toBeUndefined();
  });

  test('may not announce or grant a cluster that their token does not allow', async () => {
    const bench = await createGatewayBench();
    const identity = await bench.identity({ claims: { clusters: ['lab'] } });
    for (const slots of [
      { grants: [], clusters: [announceCluster({ name: 'theirs' })] },
      { grants: [{ cluster: 'theirs', template: 'default', granted: 1 }], clusters: null },
    ]) {
      const agent = await bench.agent({ identity });
      expect(agent.closed).toBeUndefined();
      agent.send('SLOTS', slots);
      await until(() => agent.closed !== undefined);
      expect(agent.closed?.code).toBe(4403);
      await until(() => bench.gateway.status().links === 0);
    }
  });

  test('may grant as many templates as may be announced, and not one more', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ slots: 0 });
    const cluster = 'lab';
    const grant = (from: number, to: number) => {
      const grants = Array.from({ length: to - from }, (_, index) => `template-${from + index}`);
      agent.send('SLOTS', {
        grants: grants.map((template) => ({ cluster, template, granted: 1 })),
        clusters: null,
      });
    };
    // `default` is one of them.
    for (let from = 1; from < MAX_GRANTS; from += 1_000) grant(from, Math.min(from + 1_000, MAX_GRANTS));
    grant(1, 2);
    await bench.clock.settle();
    expect(agent.closed).toBeUndefined();
    grant(MAX_GRANTS, MAX_GRANTS + 1);
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4400);
  });

  test('may not take a grant back', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    agent.send('SLOTS', { grants: [{ cluster: 'lab', template: 'default', granted: 3 }], clusters: null });
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4400);
  });
});

describe('a frame that breaks the protocol', () => {
  const control = (type: number, body: object, frame: Partial<Frame> = {}): Uint8Array =>
    encodeFrame({ type, channel: 0, stream: 0, sequence: 2, body: encodeBody(body), ...frame });
  const heartbeat = { id: 1, reply: false, echo: null, running: 0 };
  const good = () => control(TYPE.HEARTBEAT, heartbeat, { sequence: 3 });
  const changed = (index: number, value: number): Uint8Array => {
    const message = good();
    message[index] = value;
    return message;
  };
  /** HELLO and SLOTS were the link's first two. */
  const sequence = 3;

  test.for<[string, Uint8Array | string, number]>([
    ['a text message', 'hello', 4400],
    ['an empty message', new Uint8Array(0), 4400],
    ['a header that is cut', good().subarray(0, 15), 4400],
    ['another version', changed(0, 2), 4400],
    ['flags', changed(2, 1), 4400],
    ['a sequence of 2^53', changed(9, 0x20), 4400],
    ['a counter that skips', control(TYPE.HEARTBEAT, heartbeat, { sequence: 4 }), 4400],
    ['a counter that repeats', control(TYPE.HEARTBEAT, heartbeat, { sequence: 2 }), 4400],
    ['a type that is none', control(0x7f, {}, { sequence }), 4400],
    ["a type of the gateway's", control(TYPE.WELCOME, {}, { sequence }), 4400],
    ["a type of the runner's", control(TYPE.READY, {}, { sequence }), 4400],
    [
      'a body that is not JSON',
      encodeFrame({ type: TYPE.HEARTBEAT, channel: 0, stream: 0, sequence, body: Buffer.from('{') }),
      4400,
    ],
    [
      'a body that is not UTF-8',
      encodeFrame({
        type: TYPE.HEARTBEAT,
        channel: 0,
        stream: 0,
        sequence,
        body: new Uint8Array([0x22, 0xff, 0x22]),
      }),
      4400,
    ],
    ['a body with a member missing', control(TYPE.HEARTBEAT, { id: 1 }, { sequence }), 4400],
    [
      'a body with a member of another type',
      control(TYPE.HEARTBEAT, { ...heartbeat, id: '1' }, { sequence }),
      4400,
    ],
    ['a channel on a control frame', control(TYPE.HEARTBEAT, heartbeat, { sequence, channel: 1 }), 4400],
    ['a stream that never was', control(TYPE.ACCEPT, {}, { sequence, stream: 7 }), 4400],
    ['an execution’s frame on the link itself', control(TYPE.ACCEPT, {}, { sequence }), 4400],
    ['EXIT on the link itself', control(TYPE.EXIT, { result: RESULT, failure: null }, { sequence }), 4400],
    [
      'DATA on a stream that never was',
      encodeFrame({ type: TYPE.DATA, channel: 1, stream: 9, sequence: 0, body: new Uint8Array(1) }),
      4400,
    ],
    [
      'DATA without bytes',
      encodeFrame({ type: TYPE.DATA, channel: 1, stream: 1, sequence: 0, body: new Uint8Array(0) }),
      4400,
    ],
    [
      'DATA over its bound',
      encodeFrame({
        type: TYPE.DATA,
        channel: 1,
        stream: 1,
        sequence: 0,
        body: new Uint8Array(MAX_DATA_BYTES + 1),
      }),
      4413,
    ],
    [
      'a control frame over its bound',
      control(TYPE.DRAIN, { deadline_ms: 1, x: 'x'.repeat(MAX_CONTROL_BYTES) }, { sequence }),
      4413,
    ],
    ['a message over its bound', new Uint8Array(MAX_MESSAGE_BYTES + 1), 4413],
    ['a window that falls', control(TYPE.WINDOW, { limit: LINK_WINDOW_BYTES - 1 }, { sequence }), 4400],
    [
      'a window that acknowledges what was not sent',
      control(TYPE.WINDOW, { limit: LINK_WINDOW_BYTES + 1 }, { sequence }),
      4400,
    ],
    [
      'AUTH_REFRESH that nobody asked for',
      control(TYPE.AUTH_REFRESH, { token: 'x', time: 1, signature: 'x' }, { sequence }),
      4400,
    ],
    [
      'two clusters of one name',
      control(TYPE.SLOTS, { grants: [], clusters: [announceCluster(), announceCluster()] }, { sequence }),
      4400,
    ],
  ])('%s closes its link and no other', async ([, message, code]) => {
    const bench = await createGatewayBench();
    const other = await bench.agent({ instance: 'other-instance' });
    const agent = await bench.agent();
    await bench.clock.settle();
    agent.message(message);
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(code);
    await until(() => bench.gateway.status().links === 1);
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    (await other.next()).succeed();
    expect((await answer).status).toBe(200);
  });

  test('HELLO over its bound is too large', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({
      onChallenge: (self) => self.message(new Uint8Array(MAX_HELLO_BYTES + 1)),
    });
    expect(agent.closed?.code).toBe(4413);
  });

  const stream = 1;
  test.for<[string, (agent: MockAgent) => void]>([
    ['STARTED before ACCEPT', (agent) => agent.send('STARTED', {}, stream)],
    [
      'ACCEPT twice',
      (agent) => {
        agent.send('ACCEPT', {}, stream);
        agent.send('ACCEPT', {}, stream);
      },
    ],
    ['output before ACCEPT', (agent) => agent.peer.data(stream, 1, new Uint8Array(1))],
    ['EXIT before ACCEPT', (agent) => agent.send('EXIT', { result: RESULT, failure: null }, stream)],
    [
      'a result without STARTED',
      (agent) => {
        agent.send('ACCEPT', {}, stream);
        agent.send('EXIT', { result: RESULT, failure: null }, stream);
      },
    ],
    [
      'NACK after STARTED',
      (agent) => {
        agent.send('ACCEPT', {}, stream);
        agent.send('STARTED', {}, stream);
        agent.send('NACK', { code: 'busy', detail: '', retry_after_ms: null }, stream);
      },
    ],
    [
      'REPLAY_GAP without ATTACH',
      (agent) => agent.send('REPLAY_GAP', { channel: 1, from: 0, to: 1 }, stream),
    ],
    [
      'END whose size is not what came',
      (agent) => {
        agent.send('ACCEPT', {}, stream);
        agent.send('STARTED', {}, stream);
        agent.peer.data(stream, 3, new Uint8Array(3));
        agent.peer.behind('END', stream, 3, { path: 'p', size: 4, sha256: '0'.repeat(64) });
      },
    ],
    [
      'EXIT in the middle of a file',
      (agent) => {
        agent.send('ACCEPT', {}, stream);
        agent.send('STARTED', {}, stream);
        agent.peer.data(stream, 3, new Uint8Array(3));
        agent.peer.behind('EXIT', stream, 0, { result: RESULT, failure: null });
      },
    ],
    ['SLOTS on a stream', (agent) => agent.send('SLOTS', { grants: [], clusters: null }, stream)],
  ])('%s on a stream closes the link', async ([, act]) => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    await agent.next();
    act(agent);
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4400);
    await bench.clock.advance(COMEBACK_MS);
    expect((await answer).status).toBe(502);
    expect(bench.gateway.status()).toMatchObject({ running: 0, links: 0 });
  });

  test('more output than the stream’s credit closes the link', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    const answer = bench.ask('/v1/execute/stream', { body: { code: '' } });
    const execution = (await agent.next()).begin();
    const response = await answer;
    await bench.clock.settle();
    for (let offset = 0; offset <= 262_144; offset += 16_384)
      agent.raw({
        type: TYPE.DATA,
        channel: 1,
        stream: execution.stream,
        sequence: offset,
        body: new Uint8Array(16_384),
      });
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4400);
    await response.body?.cancel();
  });

  test.for(['heartbeats that want an answer', 'output that is acknowledged'])(
    '%s from an agent that does not read close the link',
    async (what) => {
      const bench = await createGatewayBench();
      let reads = true;
      const door: Door = {
        acceptLink: (socket) =>
          bench.gateway.acceptLink({ ...socket, send: (...sent) => reads && socket.send(...sent) }),
      };
      const identity = await bench.identity();
      const agent = await new MockAgent(door, { identity, now: () => bench.clock.wall() }).joined();
      const answer = bench.ask('/v1/execute', { body: { code: '' } });
      const { stream } = await agent.next();
      agent.send('NACK', { code: 'stage_failed', detail: 'No.', retry_after_ms: null }, stream);
      expect((await answer).status).toBe(422);
      reads = false;
      const output = encodeFrame({
        type: TYPE.DATA,
        channel: 1,
        stream,
        sequence: 0,
        body: new Uint8Array(MAX_DATA_BYTES),
      });
      for (let sent = 0; sent < 20_000 && !agent.closed; sent += 1)
        if (what.startsWith('output')) agent.message(output);
        else agent.send('HEARTBEAT', { id: sent, reply: true, echo: null, running: 0 });
      await bench.clock.settle();
      expect(agent.closed?.code).toBe(4400);
      expect(bench.gateway.status()).toMatchObject({ links: 0, running: 0 });
    },
  );

  test('frames on a stream that has ended are dropped', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    const execution = await agent.next();
    execution.succeed('done');
    expect((await answer).status).toBe(200);
    agent.send('STARTED', {}, execution.stream);
    agent.raw({
      type: TYPE.DATA,
      channel: 1,
      stream: execution.stream,
      sequence: 4,
      body: new Uint8Array(9),
    });
    await bench.clock.settle();
    expect(agent.closed).toBeUndefined();
  });
});

describe('an EXIT that does not hold together', () => {
  test.for([
    { outcome: 'timed_out', timed_out: false, exit_code: null },
    { outcome: 'exited', timed_out: true },
    { outcome: 'exited', exit_code: null },
    { outcome: 'cancelled', exit_code: 0 },
    { outcome: 'signaled', exit_code: 137, signal: null },
    { outcome: 'exited', signal: 9 },
    { stdout_bytes: 1 },
  ] as const)('%j is no result, and hurts only its execution', async (lie) => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    (await agent.next()).begin().out('two').exit(lie);
    const response = await answer;
    expect(await response.json()).toMatchObject({ status: 502, code: 'protocol_error', started: 'yes' });
    expect(agent.closed).toBeUndefined();
  });

  test('because more was counted than came is truncated output', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    (await agent.next()).begin().out('two').exit({ stdout_bytes: 4 });
    expect(await (await answer).json()).toMatchObject({
      stdout: 'two\n...[truncated]',
      stdout_truncated: true,
      stdout_bytes: 4,
    });
  });
});

describe('heartbeats', () => {
  test('are sent, answered with their echo, and keep a link alive', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    for (let beat = 0; beat < 10; beat += 1) await bench.clock.advance(10_000);
    expect(agent.closed).toBeUndefined();
    expect(agent.received.filter(({ name }) => name === 'HEARTBEAT')).toHaveLength(10);
    agent.send('HEARTBEAT', { id: 77, reply: true, echo: null, running: 0 });
    await until(() => agent.received.some(({ body }) => (body as { echo?: number }).echo === 77));
  });

  test('that do not come end the link without a handshake, after dead_ms and not before', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    await bench.clock.settle();
    agent.silent = true;
    await bench.clock.advance(24_999);
    expect(agent.closed).toBeUndefined();
    await bench.clock.advance(1);
    expect(agent.closed?.code).toBe(1006);
    expect(bench.gateway.status().links).toBe(0);
  });
});

/** A gateway, and an agent whose token ends so soon that it is asked for another. */
async function askForRefresh() {
  const bench = await createGatewayBench();
  const seconds = Math.floor(bench.clock.wall() / 1000);
  const agent = await bench.agent({ claims: { exp: seconds + 200 } });
  await bench.clock.advance(20_000);
  const { nonce } = await agent.seen('AUTH_REFRESH');
  return { bench, agent, nonce };
}

describe('tokens', () => {
  test('are asked for anew before they end, and the link lives on', async () => {
    const bench = await createGatewayBench();
    const watched = vi.spyOn(bench.auth.authenticator, 'watchRevocation');
    const seconds = Math.floor(bench.clock.wall() / 1000);
    const agent = await bench.agent({ claims: { exp: seconds + 600 } });
    await bench.clock.advance(600_000 - REFRESH_AHEAD_MS + 40_000);
    const { nonce } = await agent.seen('AUTH_REFRESH');
    const jwk = JSON.parse(atob(agent.options.identity.token.split('.')[1] ?? '')).cnf.jwk;
    const token = await bench.agents.sign({
      claims: { sub: 'agent', jti: 'agent-2', clusters: ['*'], cnf: { jwk }, exp: seconds + 3_600 },
    });
    const proof = await agent.options.identity.prove(nonce, agent.instance, bench.clock.wall());
    agent.send('AUTH_REFRESH', { token, ...proof });
    await until(() => watched.mock.lastCall?.[0].jti === 'agent-2');
    for (let beat = 0; beat < 60; beat += 1) await bench.clock.advance(10_000);
    expect(agent.closed).toBeUndefined();
  });

  test('of somebody else do not renew a link', async () => {
    const { bench, agent, nonce } = await askForRefresh();
    const other = await bench.identity();
    const proof = await other.prove(nonce, agent.instance, bench.clock.wall());
    agent.send('AUTH_REFRESH', { token: other.token, ...proof });
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4403);
  });

  test('of another subject do not renew a link, also with the same key', async () => {
    const { bench, agent, nonce } = await askForRefresh();
    const { identity } = agent.options;
    const { cnf } = JSON.parse(atob(identity.token.split('.')[1] ?? ''));
    const token = await bench.agents.sign({ claims: { sub: 'other', clusters: ['*'], cnf } });
    const proof = await identity.prove(nonce, agent.instance, bench.clock.wall());
    agent.send('AUTH_REFRESH', { token, ...proof });
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4403);
  });

  test.each([
    [['lab'], undefined],
    [['other', 'la'], 4403],
  ])('that allow %j renew a link that serves lab, or close it: %s', async (clusters, code) => {
    const { bench, agent, nonce } = await askForRefresh();
    const watched = vi.spyOn(bench.auth.authenticator, 'watchRevocation');
    const { identity } = agent.options;
    const { cnf } = JSON.parse(atob(identity.token.split('.')[1] ?? ''));
    const token = await bench.agents.sign({ claims: { sub: 'agent', jti: 'agent-2', clusters, cnf } });
    const proof = await identity.prove(nonce, agent.instance, bench.clock.wall());
    agent.send('AUTH_REFRESH', { token, ...proof });
    await until(() => agent.closed !== undefined || watched.mock.lastCall?.[0].jti === 'agent-2');
    expect(agent.closed?.code).toBe(code);
    expect(bench.gateway.status().links).toBe(code === undefined ? 1 : 0);
  });

  test('are proven once for each AUTH_REFRESH: a second answer, or one that nobody asked for, is a protocol error', async () => {
    const { bench, agent, nonce } = await askForRefresh();
    const { identity } = agent.options;
    const proof = await identity.prove(nonce, agent.instance, bench.clock.wall());
    const checked = vi.spyOn(bench.auth.authenticator, 'authenticateAgent');
    for (let times = 0; times < 2; times += 1)
      agent.send('AUTH_REFRESH', { token: identity.token, ...proof });
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4400);
    expect(checked).toHaveBeenCalledTimes(1);
    const other = await bench.agent({ instance: 'instance-2' });
    other.send('AUTH_REFRESH', { token: identity.token, ...proof });
    await until(() => other.closed !== undefined);
    expect(other.closed?.code).toBe(4400);
  });

  test('that end close their link', async () => {
    const bench = await createGatewayBench();
    const seconds = Math.floor(bench.clock.wall() / 1000);
    const agent = await bench.agent({ claims: { exp: seconds + 100 } });
    // The skew that an issuer's clock may have is added to its end.
    for (let beat = 0; beat < 12; beat += 1) await bench.clock.advance(10_000);
    expect(agent.closed).toBeUndefined();
    await bench.clock.advance(10_000);
    expect(agent.closed).toEqual({ code: 4401, reason: 'unauthorized' });
  });

  test('that are revoked close their link at once', async () => {
    const bench = await createGatewayBench({ denyList: true });
    const agent = await bench.agent();
    bench.auth.documents.set('deny', 'agent-1');
    await bench.auth.authenticator.refresh();
    await until(() => agent.closed !== undefined);
    expect(agent.closed?.code).toBe(4401);
    expect(bench.gateway.status().links).toBe(0);
  });
});
