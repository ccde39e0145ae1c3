import { afterEach, describe, expect, test } from 'vitest';
import { MAX_ASKED } from '../../agent/link/link-streams.ts';
import { clampTimings } from '../../agent/link/timings.ts';
import { parseCredential } from '../../shared/credential.ts';
import { closeCode } from '../../shared/errors.ts';
import { TYPE } from '../../shared/frame-type.ts';
import { MAX_MESSAGE_FRAGMENTS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { Secret } from '../../shared/secret.ts';
import { resultOf } from '../fakes/fake-runner.ts';
import {
  controlFrame,
  createMockGateway,
  type MockGateway,
  type MockGatewayOptions,
  type MockLink,
} from '../fakes/mock-gateway.ts';
import {
  startTestAgent,
  type TestAgent,
  type TestAgentOptions,
  testCredential,
} from '../fakes/test-agent.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function gateway(options: MockGatewayOptions = {}): Promise<MockGateway> {
  const mock = await createMockGateway(options);
  cleanups.push(() => mock.close());
  return mock;
}

async function join(
  options: TestAgentOptions = {},
  mockOptions: MockGatewayOptions = {},
): Promise<TestAgent & { mock: MockGateway; link: MockLink }> {
  const mock = await gateway(mockOptions);
  const test = await startTestAgent(mock, options);
  cleanups.push(() => test.agent.close());
  const link = await mock.nextLink();
  await link.next('SLOTS', ({ clusters }) => clusters !== null);
  await link.next('SLOTS', ({ grants }) => grants.length > 0);
  return { ...test, mock, link };
}

const until = async (holds: () => boolean) => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
};

/** Of the link alone: none of these has its place on a stream. */
const BEAT = { id: 1, reply: true, echo: null, running: 0 };
const STATUS = { ref: 1, execution_id: 'e', refuse_if_unknown: false };
const KEY = { key: 'k', digest: 'd', replaces: null, keep_ms: 1, release: false };
const CLAIM = { ref: 1, execution_id: 'e', ...KEY };
const SIGNAL = { ref: 1, execution_id: 'e', signal: 'SIGINT' as const };
const LIST = { action: 'list' as const, session_id: null, ttl_ms: null, skip: 0 };
const SESSION = { ref: 1, principal: 'p', ...LIST };
const OFFSETS = { '1': 0, '2': 0, '3': 0 };
const ATTACH = { execution_id: 'e', reader: null, offsets: OFFSETS, files: 0, pending: 0 };

describe('an agent that joins', () => {
  test('dials without compression or Origin, proves itself, and announces its clusters whole', async () => {
    const { link, agent } = await join();
    expect(link.request.url).toBe('/v1/agents/link');
    expect(link.request.headers).toMatchObject({
      'sec-websocket-protocol': 'podgate.v1',
      'user-agent': 'podgate/test',
    });
    expect(link.request.headers.origin).toBeUndefined();
    expect(link.request.headers['sec-websocket-extensions']).toBeUndefined();
    const { body: hello } = await link.next('HELLO');
    expect(hello).toMatchObject({
      instance: agent.instance,
      clusters: ['here'],
      min_version: 1,
      max_version: 1,
    });
    const { body: slots } = await link.next('SLOTS', ({ clusters }) => clusters !== null);
    expect(slots.clusters).toMatchObject([
      {
        name: 'here',
        backend: 'local',
        state: 'ready',
        templates: [{ name: 'default', total: 4, trouble: null }],
      },
    ]);
    expect(agent.status().obstacles).toEqual([]);
  });

  test('keeps two links to one replica and shares what is free between them', async () => {
    const { mock, link } = await join();
    const sister = await mock.nextLink();
    await sister.next('SLOTS', ({ clusters }) => clusters !== null);
    // The first had all four before the second came; from now on the second is served first.
    expect(sum(link)).toBe(4);
    const stream = link.start();
    await link.next('EXIT', (_body, on) => on === stream);
    await until(() => sum(sister) === 1);
    expect(sum(link)).toBe(4);
  });

  test('grants again what STARTs that it refused had spent', async () => {
    const { mock, link } = await join();
    await (await mock.nextLink()).next('SLOTS', ({ clusters }) => clusters !== null);
    const streams = Array.from({ length: 4 }, () => link.start({ concurrency: 0 }));
    for (const stream of streams) await link.next('NACK', (_body, on) => on === stream);
    await until(() => mock.links.reduce((total, one) => total + sum(one), 0) === 8);
  });

  test('finds every replica behind one address and lets surplus links go', async () => {
    let dials = 0;
    const mock = await gateway({ replicas: 3 });
    mock.options.onLink = (link) => {
      dials += 1;
      const serverId = `replica-${[1, 1, 1, 2, 2, 1, 3, 2, 3][(dials - 1) % 9]}`;
      const before = mock.options;
      mock.options = { ...before, serverId };
      mock.challenge(link);
      mock.options = before;
      void link.next('HELLO').then(() => {
        mock.options = { ...before, serverId };
        mock.welcome(link);
        mock.options = before;
      });
    };
    const test = await startTestAgent(mock);
    cleanups.push(() => test.agent.close());
    await until(() => test.agent.status().links.filter(({ phase }) => phase === 'joined').length === 6);
    const found = test.agent.status().links.map(({ serverId }) => serverId);
    expect(found.toSorted()).toEqual([
      'replica-1',
      'replica-1',
      'replica-2',
      'replica-2',
      'replica-3',
      'replica-3',
    ]);
    expect(dials).toBe(9);
    expect(await mock.links[2]?.closed).toMatchObject({ code: 1000, reason: 'surplus' });
  });

  test('lets a dial go that led to a replica with both its links before it proves anything', async () => {
    const mock = await gateway({ replicas: 2 });
    let proofs = 0;
    mock.options.onLink = (link) => {
      mock.challenge(link);
      void link.next('HELLO').then(() => {
        proofs += 1;
        mock.welcome(link);
      });
    };
    const test = await startTestAgent(mock);
    cleanups.push(() => test.agent.close());
    await until(() => mock.links.length >= 4);
    for (const surplus of mock.links.slice(2, 4))
      expect(await surplus.closed).toMatchObject({ code: 1000, reason: 'surplus' });
    expect(proofs).toBe(2);
  });

  test('sends a newer proof when it is asked for one', async () => {
    const { link } = await join();
    link.send('AUTH_REFRESH', { nonce: 'm'.repeat(43) });
    const { body } = await link.next('AUTH_REFRESH');
    const { body: hello } = await link.next('HELLO');
    expect(body.token).toBe(hello.token);
    expect(body.signature).not.toBe(hello.signature);
  });

  test('goes on with the credential that it had where its file cannot be read as it is asked for one', async () => {
    const [old, newer] = [await testCredential(), await testCredential()];
    let current = old;
    const { link, line } = await join({ credential: () => current });
    const tokens = new Map<string, string>();
    for (const given of [new Secret(''), new Secret(old.reveal().slice(0, 100)), newer]) {
      current = given;
      link.send('AUTH_REFRESH', { nonce: String(tokens.size).repeat(43) });
      const { body } = await link.next('AUTH_REFRESH', ({ signature }) => !tokens.has(signature));
      tokens.set(body.signature, body.token);
    }
    const tokenOf = (credential: Secret) => parseCredential(credential.reveal()).token;
    expect([...tokens.values()]).toEqual([old, old, newer].map(tokenOf));
    expect(await line('credential_unreadable')).toMatchObject({ kept: 'last_good' });
  });

  test('ends a link alone where a frame brings a fault of ours to light', async () => {
    let broke: Readonly<Record<string, unknown>> | undefined;
    const { link, mock } = await join({
      log(event, fields) {
        if (event === 'link_goaway') throw new Error('ours');
        if (event === 'link_broke') broke = fields;
      },
    });
    link.send('GOAWAY', { reason: 'draining', deadline_ms: 60_000, reconnect_after_ms: 0 });
    expect(await link.closed).toMatchObject({ code: closeCode('internal'), reason: 'internal' });
    expect(broke).toMatchObject({ server_id: 'replica-1', cause: expect.stringContaining('Error: ours') });
    await mock.nextLink();
  });

  test('answers a heartbeat at once with its echo and its load', async () => {
    const { link } = await join();
    link.send('HEARTBEAT', { id: 7, reply: true, echo: null, running: 0 });
    const { body } = await link.next('HEARTBEAT', ({ echo }) => echo === 7);
    expect(body).toMatchObject({ reply: false, running: 0 });
  });

  test.for([
    [1, 1, 1_000, 2_500],
    [10_000, 25_000, 10_000, 25_000],
    [10_000, 1, 10_000, 25_000],
    [3_600_000, 3_600_000, 30_000, 120_000],
  ])('clamps a heartbeat of %i and a death of %i ms to %i and %i', ([beat, dead, heartbeatMs, deadMs]) => {
    expect(clampTimings(beat as number, dead as number)).toEqual({ heartbeatMs, deadMs });
  });
});

describe('a gateway that misbehaves before WELCOME', () => {
  const faults: [name: string, onLink: (link: MockLink, mock: MockGateway) => void, code: number][] = [
    [
      'speaks another version',
      (link) =>
        link.send('CHALLENGE', { nonce: 'n'.repeat(43), server_id: 'r', min_version: 2, max_version: 9 }),
      4426,
    ],
    [
      'sends a short nonce',
      (link) =>
        link.raw(
          controlFrame('CHALLENGE', 1, { nonce: 'n', server_id: 'r', min_version: 1, max_version: 1 }),
        ),
      4400,
    ],
    [
      'sends work first',
      (link) => link.send('STATUS', { ref: 1, execution_id: 'e', refuse_if_unknown: false }),
      4400,
    ],
    ['sends WELCOME first', (link, mock) => mock.welcome(link), 4400],
    [
      'sends CHALLENGE twice',
      (link, mock) => {
        mock.challenge(link);
        mock.challenge(link);
      },
      4400,
    ],
    ['sends text', (link) => link.socket.send('hello'), 4400],
    ['sends a frame that is cut', (link) => link.socket.send(new Uint8Array(15)), 4400],
    ['sends another frame version', (link) => link.socket.send(new Uint8Array(16).fill(2)), 4400],
    ['sends an unknown type', (link) => link.raw({ type: 0x7f, sequence: 1 }), 4400],
    ['sends what only agents send', (link) => link.raw(controlFrame('HELLO', 1, {})), 4400],
    ['skips a control number', (link) => link.raw(controlFrame('CHALLENGE', 2, {})), 4400],
    ['sends what is not JSON', (link) => link.raw(controlFrame('CHALLENGE', 1, '{')), 4400],
    ['sends more than 16 KiB', (link) => link.socket.send(new Uint8Array(16_385)), 4413],
    ['sends more than a message may hold', (link) => link.socket.send(new Uint8Array(1_048_577)), 1009],
    [
      'changes its name',
      (link, mock) => {
        mock.challenge(link);
        void link.next('HELLO').then(() => {
          mock.options = { ...mock.options, serverId: 'other' };
          mock.welcome(link);
          mock.options = { ...mock.options, serverId: 'replica-1' };
        });
      },
      4400,
    ],
  ];
  test('has none of its work done, though sandboxes wait', async () => {
    const { backend, mock, link } = await join();
    mock.options = {
      onLink(early) {
        mock.options = { serverId: 'replica-1' };
        early.start();
      },
    };
    link.socket.close();
    expect((await (await mock.nextLink()).closed).code).toBe(4400);
    const good = await mock.nextLink();
    await good.next('SLOTS', ({ grants }) => grants.length > 0);
    expect(backend.made.flatMap(({ runner }) => runner.runs)).toEqual([]);
    good.start();
    await good.next('ACCEPT');
    await until(() => backend.made.some(({ runner }) => runner.runs.length === 1));
  });

  test.for(faults)(
    '%s: the link closes with its code, and the agent dials again',
    async ([, onLink, code]) => {
      const mock = await gateway();
      // The first link alone: the agent may be back before this test has seen that one close.
      mock.options = {
        onLink(link) {
          mock.options = { serverId: 'replica-1' };
          onLink(link, mock);
        },
      };
      const test = await startTestAgent(mock);
      cleanups.push(() => test.agent.close());
      const link = await mock.nextLink();
      expect((await link.closed).code).toBe(code);
      const second = await mock.nextLink();
      await second.next('SLOTS');
    },
  );

  test.for([
    [-600_000, / This machine's clock is (600|601) s ahead of the gateway's: set both by NTP\.$/],
    [600_000, / This machine's clock is (599|600) s behind the gateway's: set both by NTP\.$/],
    [20_000, /\(unauthorized\)\.$/],
    [undefined, /\(unauthorized\)\.$/],
  ] as const)(
    'that does not accept the proof is told apart by its clock, %s ms ahead',
    async ([aheadMs, detail]) => {
      const mock = await gateway({
        ...(aheadMs !== undefined && { aheadMs }),
        onLink: (link) => link.socket.close(closeCode('unauthorized'), 'unauthorized'),
      });
      const test = await startTestAgent(mock);
      cleanups.push(() => test.agent.close());
      expect(await test.line('link_ended')).toMatchObject({ detail: expect.stringMatching(detail) });
    },
  );

  test('that ignores the subprotocol is left', async () => {
    const mock = await gateway({ protocols: 'ignore' });
    const test = await startTestAgent(mock);
    cleanups.push(() => test.agent.close());
    expect(await test.line('link_ended')).toMatchObject({
      code: expect.stringMatching(/unreachable|protocol_error/),
    });
  });

  test('that cannot be reached is named, without what its URL may hold beside', async () => {
    const mock = await gateway();
    const gatewayUrl = new URL(`https://user:SECRET@${mock.url.host}/below`);
    const test = await startTestAgent(mock, { gatewayUrl });
    cleanups.push(() => test.agent.close());
    expect(await test.line('link_ended')).toMatchObject({
      code: 'unreachable',
      detail: `No link to wss://${mock.url.host}/below/v1/agents/link: EPROTO.`,
    });
  });

  test('that its token names no cluster of its for is not asked, and the log says what to do', async () => {
    const mock = await gateway();
    let credential = await testCredential(['lab', 'eu-*']);
    const test = await startTestAgent(mock, { credential: () => credential });
    cleanups.push(() => test.agent.close());
    expect(await test.line('link_ended')).toMatchObject({
      code: 'forbidden',
      detail:
        "The agent's token is for lab, eu-*, not for the cluster 'here': call it so, or make another with \"podgate agents token --cluster here\".",
    });
    expect((await (await mock.nextLink()).closed).code).toBe(4403);
    // A file may hold another token by then.
    credential = await testCredential(['he*']);
    await test.line('link_joined');
  });

  test('that answers 503 instead of an upgrade is tried again', async () => {
    const mock = await gateway({ refuse: 503 });
    const test = await startTestAgent(mock);
    cleanups.push(() => test.agent.close());
    const dialled = `ws://${mock.url.host}/v1/agents/link`;
    expect(await test.line('link_ended')).toMatchObject({
      code: 'unreachable',
      detail: `The gateway at ${dialled} answered 503 instead of an upgrade.`,
    });
    expect(test.agent.status().obstacles).toContain('No gateway is connected.');
    mock.options = {};
    await (await mock.nextLink()).next('SLOTS');
  });
});

describe('a gateway that misbehaves on a joined link', () => {
  const faults: [name: string, misbehave: (link: MockLink) => void, code: number][] = [
    ['sends text', (link) => link.socket.send('x'), 4400],
    ['opens stream 2 first', (link) => link.raw(controlFrame('START', 3, {}, 2)), 4400],
    [
      'sends START on stream 0',
      (link) => {
        link.peer.open(0);
        link.start();
        link.raw(controlFrame('START', 9, {}, 0));
      },
      4400,
    ],
    ['cancels a stream that never was', (link) => link.send('CANCEL', { reason: 'x' }, 9), 4400],
    [
      'sends data on a stream that never was',
      (link) => link.raw({ type: TYPE.DATA, stream: 4, body: new Uint8Array(1) }),
      4400,
    ],
    [
      'sends DATA of no bytes',
      (link) => {
        const stream = link.start();
        link.raw({ type: TYPE.DATA, stream, sequence: 9_999 });
      },
      4400,
    ],
    [
      'sends output',
      (link) => {
        const stream = link.start();
        link.raw({ type: TYPE.DATA, stream, channel: 1, body: new Uint8Array(1) });
      },
      4400,
    ],
    [
      'sends a control frame over 64 KiB',
      (link) => link.raw({ type: TYPE.STATUS, sequence: 3, body: new Uint8Array(65_537) }),
      4413,
    ],
    ['sends a message over 1 MiB', (link) => link.socket.send(new Uint8Array(1_048_577)), 1009],
    [
      'sends a message in more pieces than it may be',
      (link) => {
        for (let fragment = 0; fragment <= MAX_MESSAGE_FRAGMENTS; fragment += 1)
          link.socket.send(new Uint8Array(1), { fin: false });
      },
      1008,
    ],
    ['lowers the window of the link', (link) => link.send('WINDOW' as never, { limit: 5 } as never), 4400],
    [
      'acknowledges what was not sent',
      (link) => link.send('WINDOW' as never, { limit: 9_000_000 } as never),
      4400,
    ],
    [
      'opens a window for output that it was never sent',
      (link) => {
        const stream = link.start();
        link.send('WINDOW' as never, { limit: STREAM_WINDOW_BYTES + 1 } as never, stream);
      },
      4400,
    ],
    [
      'asks for another proof before it has one',
      (link) => {
        for (let n = 0; n < 2; n += 1) link.send('AUTH_REFRESH', { nonce: 'm'.repeat(43) });
      },
      4400,
    ],
    ['sends CANCEL for nothing', (link) => link.send('CANCEL', { reason: 'x' }), 4400],
    ['sends a heartbeat on a stream', (link) => link.send('HEARTBEAT', BEAT, link.start()), 4400],
    ['asks for a status on a stream', (link) => link.send('STATUS', STATUS, link.start()), 4400],
    ['claims a key on a stream', (link) => link.send('CLAIM', CLAIM, link.start()), 4400],
    ['signals on a stream', (link) => link.send('SIGNAL', SIGNAL, link.start()), 4400],
    ['asks for sessions on a stream', (link) => link.send('SESSION', SESSION, link.start()), 4400],
    [
      'acknowledges a result on a stream',
      (link) => link.send('RESULT_ACK', { execution_id: 'e' }, link.start()),
      4400,
    ],
    ['attaches on stream 0', (link) => link.send('ATTACH', ATTACH), 4400],
    ['feeds on stream 0', (link) => link.send('INPUT', { execution_id: 'e', writer: 'w' }), 4400],
  ];
  test.for(faults)('%s: this link closes with its code, its sister lives on', async ([, misbehave, code]) => {
    const { mock, link, backend } = await join();
    const sister = await mock.nextLink();
    await sister.next('SLOTS', ({ clusters }) => clusters !== null);
    backend.made.forEach(({ runner }) => {
      runner.onRun = () => {};
    });
    misbehave(link);
    expect((await link.closed).code).toBe(code);
    sister.send('HEARTBEAT', { id: 1, reply: true, echo: null, running: 0 });
    await sister.next('HEARTBEAT', ({ echo }) => echo === 1);
    await sister.next('SLOTS', ({ grants }) => grants.length > 0);
  });

  test('sends more input than it announced: the link closes and the sandbox is discarded', async () => {
    const { link, backend } = await join();
    for (const { runner } of backend.made) runner.onRun = () => {};
    const stream = link.start(
      { sizes: { manifest: 0, code: 1, stdin: null, files: 0 } },
      { code: 'x'.repeat(50), manifest: '' },
    );
    expect(stream).toBe(1);
    expect((await link.closed).code).toBe(4400);
    await until(() => backend.made.some(({ runner }) => runner.runs[0]?.cancelled !== undefined));
  });

  test('cancels one execution again and again: the agent does not remember every question', async () => {
    const { link, backend } = await join();
    for (const { runner } of backend.made) {
      runner.onRun = (run) => run.started();
      runner.onCancel = () => {};
    }
    link.start({ execution_id: 'asked-for' });
    await link.next('STARTED');
    const ask = () => link.send('CANCEL', { reason: 'cancelled', execution_id: 'asked-for' });
    for (let n = 0; n < MAX_ASKED; n += 1) ask();
    link.send('HEARTBEAT', { id: 1, reply: true, echo: null, running: 0 });
    await link.next('HEARTBEAT', ({ echo }) => echo === 1);
    ask();
    expect((await link.closed).code).toBe(4400);
    expect(link.seen.some(({ name }) => name === 'STATUS')).toBe(false);
  });

  test('asks, and is answered, as often as it likes', async () => {
    const { link } = await join();
    const answers = () => link.seen.filter(({ name }) => name === 'STATUS').length;
    for (let asked = 0; asked <= MAX_ASKED; ) {
      for (const before = asked; asked < before + 1_000; asked += 1)
        link.send('CANCEL', { reason: 'x', execution_id: 'unknown' });
      await until(() => answers() === asked);
    }
  });

  test('asks without reading: the agent does not keep every answer', async () => {
    const { link, agent } = await join();
    link.socket.pause();
    const before = process.memoryUsage().rss;
    let sequence = 2;
    const flood = () => {
      for (let n = 0; n < 2_000; n += 1) {
        sequence += 1;
        link.raw(
          controlFrame('STATUS', sequence, {
            ref: n,
            execution_id: 'e'.repeat(1_000),
            refuse_if_unknown: false,
          }),
        );
      }
    };
    for (
      let round = 0;
      round < 60 && agent.status().links.some(({ phase }) => phase === 'joined');
      round += 1
    ) {
      flood();
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (agent.status().links.length < 2 || link.socket.readyState !== link.socket.OPEN) break;
    }
    link.socket.resume();
    await link.closed;
    expect(process.memoryUsage().rss - before).toBeLessThan(400_000_000);
  });
});

describe('an agent whose gateway goes', () => {
  test('terminates a link that is silent, and dials again', async () => {
    const { link, line } = await join({}, { heartbeatMs: 1, deadMs: 1 });
    link.socket.pause();
    expect(await line('link_ended')).toMatchObject({ code: 'silent' });
  });

  test('brings the replacement up before it lets the old link go', async () => {
    const { link, mock, agent } = await join();
    await (await mock.nextLink()).next('SLOTS');
    link.send('GOAWAY', { reason: 'deploy', deadline_ms: 60_000, reconnect_after_ms: 1 });
    const replacement = await mock.nextLink();
    await replacement.next('SLOTS');
    expect(
      agent
        .status()
        .links.map(({ phase }) => phase)
        .toSorted(),
    ).toEqual(['joined', 'joined', 'leaving']);
    expect(link.socket.readyState).toBe(link.socket.OPEN);
    link.socket.close(4503);
    await until(() => agent.status().links.length === 2);
  });

  test('finishes what runs on a link that is going', async () => {
    const { link, mock, backend } = await join();
    await mock.nextLink();
    for (const { runner } of backend.made) runner.onRun = () => {};
    const stream = link.start();
    await link.next('ACCEPT');
    await until(() => backend.made.some(({ runner }) => runner.runs.length > 0));
    link.send('GOAWAY', { reason: 'deploy', deadline_ms: 60_000, reconnect_after_ms: 0 });
    await mock.nextLink();
    const run = backend.made.flatMap(({ runner }) => runner.runs)[0];
    run?.started();
    run?.output(1, 'late');
    run?.exit(resultOf({ stdout_bytes: 4 }));
    await link.next('EXIT', (_body, on) => on === stream);
    expect(link.text(stream, 1)).toBe('late');
  });

  test('grants on the sister what the lost link had not spent', async () => {
    const { link, mock } = await join();
    const sister = await mock.nextLink();
    await sister.next('SLOTS', ({ clusters }) => clusters !== null);
    expect(sum(link)).toBe(4);
    link.socket.terminate();
    await until(() => sum(sister) === 4);
  });

  test('lets what ran on it go on, and attaches it to the sister, byte for byte', async () => {
    const { link, mock, backend } = await join();
    const sister = await mock.nextLink();
    await sister.next('SLOTS');
    for (const { runner } of backend.made)
      runner.onRun = (run) => {
        run.started();
        run.output(1, 'begin');
      };
    const lost = link.start({ execution_id: 'lost' });
    await until(() => link.text(lost, 1) === 'begin');
    link.socket.terminate();
    const stream = sister.attach('lost', { offsets: { '1': 2, '2': 0, '3': 0 } });
    await until(() => sister.text(stream, 1) === 'gin');
    const run = backend.made.flatMap(({ runner }) => runner.runs)[0];
    run?.output(2, 'err');
    run?.exit(resultOf({ stdout_bytes: 5, stderr_bytes: 3 }));
    const { body } = await sister.next('EXIT', (_body, on) => on === stream);
    expect(body.result?.outcome).toBe('exited');
    expect(sister.text(stream, 2)).toBe('err');
    expect(sister.fault).toBeUndefined();
    sister.send('RESULT_ACK', { execution_id: 'lost' });
    const after = sister.attach('lost', {});
    await sister.next('EXIT', (_body, on) => on === after);
    const gaps = sister.seen.flatMap(({ name, body: gap }) => (name === 'REPLAY_GAP' ? [gap] : []));
    expect(gaps).toEqual([
      { channel: 1, from: 0, to: 5 },
      { channel: 2, from: 0, to: 3 },
    ]);
  });

  test('sends more than a window to whoever attaches, behind it the end, and lets it go when told', async () => {
    const { link, mock, backend } = await join();
    const sister = await mock.nextLink();
    await sister.next('SLOTS');
    const size = 1_000_000;
    for (const { runner } of backend.made)
      runner.onRun = (run) => {
        run.started();
        run.output(1, new Uint8Array(200_000).fill(1));
      };
    const lost = link.start({ execution_id: 'big', detach: true });
    await until(() => link.text(lost, 1).length === 200_000);
    link.socket.terminate();
    const run = backend.made.flatMap(({ runner }) => runner.runs)[0];
    await until(() => (run?.limit ?? 0) >= size);
    run?.output(1, new Uint8Array(size - 200_000).fill(2));
    run?.exit(resultOf({ stdout_bytes: size }));
    const stream = sister.attach('big', {});
    await sister.next('EXIT', (_body, on) => on === stream);
    expect(sister.text(stream, 1)).toHaveLength(size);
    const dropped = sister.attach('big', {});
    sister.send('DETACH', {}, dropped);
    sister.send('HEARTBEAT', { id: 1, reply: true, echo: null, running: 0 });
    await sister.next('HEARTBEAT', ({ echo }) => echo === 1);
    expect(sister.fault).toBeUndefined();
  });

  test('answers CANCEL by id when the runner has confirmed the end', async () => {
    const { link, backend } = await join();
    const cancelled: (() => void)[] = [];
    for (const { runner } of backend.made) {
      runner.onRun = (run) => run.started();
      runner.onCancel = (run) =>
        cancelled.push(() => run.exit(resultOf({ outcome: 'cancelled', exit_code: null })));
    }
    link.start({ execution_id: 'ended' });
    await link.next('STARTED');
    link.send('CANCEL', { reason: 'cancelled', execution_id: 'ended' });
    await until(() => cancelled.length === 1);
    expect(link.seen.some(({ name }) => name === 'STATUS')).toBe(false);
    cancelled[0]?.();
    const { body } = await link.next('STATUS');
    expect(body).toMatchObject({ state: 'ended', record: { exit: { result: { outcome: 'cancelled' } } } });
  });
});

describe('an agent that drains', () => {
  test('takes nothing more, lets what runs end, closes its links and destroys its sandboxes', async () => {
    const { agent, link, mock, backend } = await join();
    await mock.nextLink();
    for (const { runner } of backend.made) runner.onRun = (run) => run.started();
    const stream = link.start();
    await link.next('STARTED');
    const askedAtMs = performance.now();
    const drained = agent.drain(30_000);
    const { deadline_ms } = (await link.next('DRAIN')).body;
    // What is left of it when it is said.
    expect(deadline_ms).toBeLessThanOrEqual(30_000);
    expect(deadline_ms).toBeGreaterThanOrEqual(Math.floor(30_000 - (performance.now() - askedAtMs)));
    const late = link.start();
    expect((await link.next('NACK', (_body, on) => on === late)).body.code).toBe('draining');
    const run = backend.made.flatMap(({ runner }) => runner.runs)[0];
    run?.output(1, 'bye');
    run?.exit(resultOf({ stdout_bytes: 3 }));
    expect((await link.next('EXIT', (_body, on) => on === stream)).body.result?.outcome).toBe('exited');
    await drained;
    expect((await link.closed).code).toBe(4503);
    expect(link.text(stream, 1)).toBe('bye');
    expect(backend.alive).toEqual([]);
    expect(backend.closed).toBe(true);
  });

  /** Drains while an execution named `lost` runs, and has just lost its links. */
  async function drainCutOff() {
    const joined = await join();
    const { agent, link, mock, backend } = joined;
    const sister = await mock.nextLink();
    for (const { runner } of backend.made) runner.onRun = (run) => run.started();
    link.start({ execution_id: 'lost' });
    await link.next('STARTED');
    const drained = agent.drain(30_000);
    await Promise.all([link.next('DRAIN'), sister.next('DRAIN')]);
    for (const { socket } of [link, sister]) socket.terminate();
    return { ...joined, drained };
  }

  test('dials again where its links break, says on each that it drains, and what runs ends whole', async () => {
    const { mock, backend, drained } = await drainCutOff();
    const next = await mock.nextLink();
    const { body } = await next.next('DRAIN');
    expect(body.deadline_ms).toBeLessThanOrEqual(30_000);
    expect(next.granted.size).toBe(0);
    const stream = next.attach('lost', {});
    const run = backend.made.flatMap(({ runner }) => runner.runs)[0];
    run?.output(1, 'bye');
    await until(() => next.text(stream, 1) === 'bye');
    run?.exit(resultOf({ stdout_bytes: 3 }));
    expect((await next.next('EXIT', (_body, on) => on === stream)).body.result?.outcome).toBe('exited');
    await drained;
  });

  test('waits for whoever lost its link before the end, and tells it, but not when it is told to hurry', async () => {
    for (const hurry of [false, true]) {
      const { agent, mock, backend, drained } = await drainCutOff();
      await until(() => agent.status().links.every(({ phase }) => phase !== 'joined'));
      backend.made.flatMap(({ runner }) => runner.runs)[0]?.exit(resultOf({}));
      const next = await mock.nextLink();
      await next.next('DRAIN');
      if (hurry) await agent.close();
      else {
        const stream = next.attach('lost', {});
        const { body } = await next.next('EXIT', (_body, on) => on === stream);
        expect(body.result?.outcome).toBe('exited');
      }
      await drained;
    }
  });

  test('tells whoever reads slowly all of what has ended, also over another link', async () => {
    const { agent, link, mock, backend } = await join();
    const sister = await mock.nextLink();
    await sister.next('SLOTS');
    sister.autoWindow = false;
    const size = STREAM_WINDOW_BYTES + 100_000;
    for (const { runner } of backend.made) runner.onRun = (run) => run.started();
    link.start({ execution_id: 'slow' });
    await link.next('STARTED');
    link.socket.terminate();
    const other = await mock.nextLink();
    await other.next('SLOTS');
    const run = backend.made.flatMap(({ runner }) => runner.runs)[0];
    await until(() => (run?.limit ?? 0) >= size);
    run?.output(1, new Uint8Array(size).fill(1));
    run?.exit(resultOf({ stdout_bytes: size }));
    const cut = sister.attach('slow', {});
    await until(() => sister.text(cut, 1).length === STREAM_WINDOW_BYTES);
    const drained = agent.drain(30_000);
    for (const each of [sister, other]) {
      const { body } = await each.next('HEARTBEAT', ({ reply }) => reply);
      each.send('HEARTBEAT', { id: 1, reply: false, echo: body.id, running: 0 });
    }
    // The end is lost with its link.
    for (const { socket } of [sister, other]) socket.terminate();
    const next = await mock.nextLink();
    await next.next('DRAIN');
    const stream = next.attach('slow', {});
    await next.next('EXIT', (_body, on) => on === stream);
    expect(next.text(stream, 1)).toHaveLength(size);
    await drained;
  });

  test('ends what still runs at its deadline with a clear code', async () => {
    const { agent, link, backend } = await join();
    for (const { runner } of backend.made) runner.onRun = (run) => run.started();
    const stream = link.start();
    await link.next('STARTED');
    await agent.drain(20);
    const { body } = await link.next('EXIT', (_body, on) => on === stream);
    expect(body).toMatchObject({ result: null, failure: { code: 'draining', started: 'yes' } });
    expect(backend.alive).toEqual([]);
  });

  test('with nothing to do ends at once', async () => {
    const { agent, link } = await join();
    await agent.drain(30_000);
    expect((await link.closed).code).toBe(4503);
  });
});

function sum(link: MockLink): number {
  return [...link.granted.values()].reduce((total, granted) => total + granted, 0);
}
