import { describe, expect, test } from 'vitest';
import type { Link } from '../../agent/link/link.ts';
import { createLinkSet, type LinkSet, type LinkSetDeps } from '../../agent/link/link-set.ts';
import { type LinkEvent, type LinkState, next } from '../../agent/link/link-state.ts';
import { isSurplus, wantsLink } from '../../agent/link/plan-links.ts';
import { createFakeClock, type FakeClock } from '../fakes/fake-clock.ts';

const link = (serverId: string | null, leaving = false) => ({ serverId, leaving });

describe('the plan of links', () => {
  test.for([
    ['with none', [], 1, 0, true],
    ['while one is on its way', [link(null)], 1, 0, false],
    ['with one of two to a replica', [link('a')], 1, 0, true],
    ['with both', [link('a'), link('a')], 1, 0, false],
    ['with one replica of two found', [link('a'), link('a')], 2, 0, true],
    ['after 15 dials that found nothing', [link('a'), link('a')], 2, 15, true],
    ['after 16 dials that found nothing', [link('a'), link('a')], 2, 16, false],
    ['after 16 dials, with none left', [link('a', true)], 2, 16, true],
    ['with one that is leaving', [link('a'), link('a', true)], 1, 0, true],
    [
      'with eight replicas of a hundred',
      'abcdefgh'.split('').flatMap((id) => [link(id), link(id)]),
      100,
      0,
      false,
    ],
  ] as const)('%s', ([, links, replicas, misses, wanted]) => {
    expect(wantsLink({ links, replicas, misses })).toBe(wanted);
  });

  test.for([
    ['a', [], false],
    ['a', [link('a')], false],
    ['a', [link('a'), link('a')], true],
    ['a', [link('a'), link('a', true)], false],
    ['z', 'abcdefgh'.split('').map((id) => link(id)), true],
    ['h', 'abcdefgh'.split('').map((id) => link(id)), false],
  ] as const)('calls %s among %j surplus: %s', ([id, others, surplus]) => {
    expect(isSurplus(id, others)).toBe(surplus);
  });
});

describe('the states of a link', () => {
  const challenge: LinkEvent = {
    type: 'challenge',
    body: { nonce: 'n'.repeat(43), server_id: 's', min_version: 1, max_version: 1 },
  };
  const welcome: LinkEvent = {
    type: 'welcome',
    body: { version: 1, server_id: 's', replicas: 2, heartbeat_ms: 10_000, dead_ms: 25_000 },
  };
  const walk = (...events: LinkEvent[]) => {
    let state: LinkState = { phase: 'dialing' };
    let effects: readonly { do: string }[] = [];
    for (const event of events) ({ state, effects } = next(state, event));
    return { state, effects: effects.map((effect) => effect.do) };
  };
  const joined: LinkEvent[] = [{ type: 'dial' }, { type: 'opened' }, challenge, welcome];

  test('lead from the dial to a joined link', () => {
    expect(walk({ type: 'dial' })).toMatchObject({ state: { phase: 'dialing' }, effects: ['arm'] });
    expect(walk({ type: 'opened' }, challenge)).toMatchObject({
      state: { phase: 'waiting_for_welcome' },
      effects: ['prove'],
    });
    expect(walk(...joined)).toMatchObject({
      state: { phase: 'joined', serverId: 's', heartbeatMs: 10_000 },
      effects: ['disarm', 'joined', 'arm', 'arm'],
    });
  });

  test.for([
    ['silence', [...joined, { type: 'timer', timer: 'dead' }], 'silent', ['terminate', 'ended']],
    [
      'no answer in time',
      [{ type: 'opened' }, { type: 'timer', timer: 'join' }],
      'handshake_timeout',
      ['close', 'ended'],
    ],
    [
      'a welcome from elsewhere',
      [{ type: 'opened' }, challenge, { ...welcome, body: { ...welcome.body, server_id: 'x' } }],
      'protocol_error',
      ['close', 'ended'],
    ],
    [
      'a version that was not asked for',
      [{ type: 'opened' }, challenge, { ...welcome, body: { ...welcome.body, version: 2 } }],
      'version_mismatch',
      ['close', 'ended'],
    ],
    ['work too early', [{ type: 'opened' }, { type: 'work' }], 'protocol_error', ['close', 'ended']],
    ['a challenge before the socket is open', [challenge], 'protocol_error', ['close', 'ended']],
    [
      'the end of GOAWAY',
      [
        ...joined,
        { type: 'goaway', body: { reason: '', deadline_ms: 1, reconnect_after_ms: 0 } },
        { type: 'timer', timer: 'leave' },
      ],
      'draining',
      ['close', 'ended'],
    ],
    [
      'its own side',
      [...joined, { type: 'let_go', code: 1000, reason: 'surplus' }],
      'let_go',
      ['close', 'ended'],
    ],
    [
      'a lost socket',
      [...joined, { type: 'socket_closed', end: { code: 'lost', detail: '' } }],
      'lost',
      ['ended'],
    ],
  ] as [string, LinkEvent[], string, string[]][])('end by %s', ([, events, code, effects]) => {
    expect(walk(...events)).toMatchObject({ state: { phase: 'ended', why: { code } }, effects });
  });

  test('ignore everything once they have ended', () => {
    const ended: LinkEvent[] = [...joined, { type: 'socket_closed', end: { code: 'lost', detail: '' } }];
    for (const event of [
      ...joined,
      { type: 'timer', timer: 'heartbeat' } as const,
      { type: 'work' } as const,
    ])
      expect(walk(...ended, event).effects).toEqual([]);
  });

  test('answer a heartbeat that asks, and no other', () => {
    const beat = (reply: boolean): LinkEvent => ({
      type: 'heartbeat',
      body: { id: 3, reply, echo: null, running: 0 },
    });
    expect(walk(...joined, beat(true)).effects).toEqual(['beat']);
    expect(walk(...joined, beat(false)).effects).toEqual([]);
    const leaving: LinkEvent[] = [
      ...joined,
      { type: 'goaway', body: { reason: '', deadline_ms: 9, reconnect_after_ms: 0 } },
    ];
    expect(walk(...leaving, beat(true)).effects).toEqual(['beat']);
    expect(walk(...leaving, { type: 'timer', timer: 'heartbeat' }).effects).toEqual(['beat', 'arm']);
  });
});

type FakeLink = Link & {
  readonly handlers: Parameters<LinkSetDeps['connect']>[0];
  join(serverId: string, replicas?: number): void;
  end(): void;
};

function createBench(random = 0.5) {
  const clock: FakeClock = createFakeClock();
  const dials: { atMs: number; link: FakeLink }[] = [];
  const known: string[] = [];
  const set: LinkSet = createLinkSet({
    clock,
    random: () => random,
    log: () => {},
    onJoined: () => known.push('joined'),
    onGone: () => known.push('gone'),
    connect(handlers) {
      let phase: Link['phase'] = 'dialing';
      let serverId: string | null = null;
      const fake: FakeLink = {
        handlers,
        get phase() {
          return phase;
        },
        get serverId() {
          return serverId;
        },
        roundTripMs: null,
        flushed: true,
        send: () => {},
        letGo() {
          phase = 'ended';
          handlers.onEnded(fake, { code: 'let_go', detail: '' });
        },
        join(id, replicas = 1) {
          phase = 'joined';
          serverId = id;
          handlers.onJoined(fake, replicas);
        },
        end() {
          phase = 'ended';
          handlers.onEnded(fake, { code: 'lost', detail: '' });
        },
      };
      dials.push({ atMs: clock.now(), link: fake });
      return fake;
    },
  });
  return { clock, dials, set, known, last: () => dials.at(-1)?.link as FakeLink };
}

describe('the set of links', () => {
  test('waits with full jitter between 0 and twice as much each time, 60 s at most', async () => {
    const { clock, dials, set, last } = createBench(0.999_999);
    set.start();
    for (let n = 0; n < 9; n += 1) {
      last().end();
      await clock.advance(60_000);
    }
    const waits = dials
      .slice(1)
      .map(({ atMs }, index) => Math.round((atMs - (dials[index]?.atMs ?? 0)) / 1_000));
    // The first dial after a failure comes after its own wait; the rest of the 60 s passes before the next failure.
    expect(waits[0]).toBe(1);
    expect(dials).toHaveLength(10);
  });

  test('dials at once with a jitter of 0 and later with more', async () => {
    for (const [random, expected] of [
      [0, 0],
      [0.5, 500],
    ] as const) {
      const { clock, dials, set, last } = createBench(random);
      set.start();
      last().end();
      await clock.advance(1_000);
      expect((dials[1]?.atMs ?? 0) - (dials[0]?.atMs ?? 0)).toBe(expected);
    }
  });

  test('forgets its failures only after a link was stable for 30 s', async () => {
    const { clock, dials, set, last } = createBench(0.5);
    set.start();
    for (let n = 0; n < 5; n += 1) {
      last().end();
      await clock.advance(60_000);
    }
    const failures = dials.length;
    last().join('a');
    await clock.settle();
    last().join('a');
    await clock.advance(29_000);
    dials[failures - 1]?.link.end();
    await clock.settle();
    expect(dials).toHaveLength(failures + 1);
    // 0.5 × 32 s
    await clock.advance(15_999);
    expect(dials).toHaveLength(failures + 1);
    await clock.advance(1);
    expect(dials).toHaveLength(failures + 2);
    last().join('a');
    await clock.advance(30_000);
    last().end();
    await clock.advance(500);
    expect(dials).toHaveLength(failures + 3);
  });

  test('after GOAWAY waits as told and more, and keeps the old link meanwhile', async () => {
    const { clock, dials, set, last, known } = createBench(0.5);
    set.start();
    last().join('a');
    last().join('a');
    await clock.settle();
    const old = dials[0]?.link as FakeLink;
    old.handlers.onLeave(old, 4_000);
    expect(known).toEqual(['joined', 'joined', 'gone']);
    await clock.advance(4_999);
    expect(dials).toHaveLength(2);
    await clock.advance(1);
    expect(dials).toHaveLength(3);
    last().join('b');
    expect(set.links()).toContain(old);
    old.end();
    expect(known.filter((word) => word === 'gone')).toHaveLength(1);
  });

  test('looks again after 60 s for a replica that it did not find', async () => {
    const { clock, dials, set, last } = createBench(0);
    set.start();
    for (let n = 0; n < 18; n += 1) last().join('a', 2);
    expect(dials).toHaveLength(18);
    expect(set.links()).toHaveLength(2);
    await clock.advance(59_999);
    expect(dials).toHaveLength(18);
    await clock.advance(1);
    expect(dials).toHaveLength(19);
    last().join('b', 2);
    last().join('b', 2);
    await clock.advance(200_000);
    expect(set.links()).toHaveLength(4);
    expect(dials).toHaveLength(20);
  });

  test('dials no more while it is held', async () => {
    const { clock, dials, set, last } = createBench(0);
    set.start();
    last().join('a');
    set.hold();
    last().end();
    await clock.advance(100_000);
    expect(dials).toHaveLength(2);
  });
});
