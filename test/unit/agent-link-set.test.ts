import { describe, expect, test } from 'vitest';
import type { Link } from '../../agent/link/link.ts';
import { createLinkSet, type LinkSet, type LinkSetDeps, MAX_LEAVING } from '../../agent/link/link-set.ts';
import { type LinkEvent, type LinkState, next } from '../../agent/link/link-state.ts';
import { isSurplus, wantsLink } from '../../agent/link/plan-links.ts';
import { createFakeClock, type FakeClock } from '../fakes/fake-clock.ts';

const link = (serverId: string | null, leaving = false) => ({ serverId, leaving });

describe('the plan of links', () => {
  test.for([
    ['with none', [], 1, true],
    ['while one is on its way', [link(null)], 1, false],
    ['with one of two to a replica', [link('a')], 1, true],
    ['with both', [link('a'), link('a')], 1, false],
    ['with one replica of two found', [link('a'), link('a')], 2, true],
    ['with both of one and one of the other', [link('a'), link('b'), link('a')], 2, true],
    ['with both of both', [link('a'), link('b'), link('a'), link('b')], 2, false],
    ['with one that is leaving', [link('a'), link('a', true)], 1, true],
    [
      'with eight replicas of a hundred',
      'abcdefgh'.split('').flatMap((id) => [link(id), link(id)]),
      100,
      false,
    ],
  ] as const)('%s', ([, links, replicas, wanted]) => {
    expect(wantsLink({ links, replicas })).toBe(wanted);
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
  const challenge: Extract<LinkEvent, { type: 'challenge' }> = {
    type: 'challenge',
    wanted: true,
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
    [
      'a replica that has its links already',
      [{ type: 'opened' }, { ...challenge, wanted: false }],
      'surplus',
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

  test('follow the first GOAWAY, and no further than an agent can wait', () => {
    const goaway = (ms: number): LinkEvent => ({
      type: 'goaway',
      body: { reason: 'x', deadline_ms: ms, reconnect_after_ms: ms },
    });
    let state: LinkState = { phase: 'dialing' };
    for (const event of joined) ({ state } = next(state, event));
    const told = next(state, goaway(Number.MAX_SAFE_INTEGER));
    expect(told.effects).toMatchObject([
      { do: 'leave', reconnectAfterMs: 60_000 },
      { do: 'arm', timer: 'leave', afterMs: 3_600_000 },
    ]);
    expect(next(told.state, goaway(1)).effects).toEqual([]);
    expect(next(state, goaway(1)).effects).toMatchObject([{ reconnectAfterMs: 1 }, { afterMs: 1 }]);
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
  /** The gateway names itself, then takes the agent unless that is enough already. */
  join(serverId: string, replicas?: number): void;
  end(): void;
};

function createBench(random = 0.5) {
  const clock: FakeClock = createFakeClock();
  const dials: { atMs: number; link: FakeLink }[] = [];
  const known: string[] = [];
  const failsAtOnce = { next: false };
  const set: LinkSet = createLinkSet({
    clock,
    random: () => random,
    log: () => {},
    onJoined: () => known.push('joined'),
    onGone: () => known.push('gone'),
    connect(handlers) {
      let phase: Link['phase'] = failsAtOnce.next ? 'ended' : 'dialing';
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
        heard: async () => {},
        send: () => {},
        letGo() {
          phase = 'ended';
          handlers.onEnded(fake, { code: 'let_go', detail: '' });
        },
        join(id, replicas = 1) {
          if (!handlers.isWanted(id)) {
            phase = 'ended';
            handlers.onEnded(fake, { code: 'surplus', detail: '' });
            return;
          }
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
      if (phase === 'ended') fake.end();
      failsAtOnce.next = false;
      return fake;
    },
  });
  const last = () => dials.at(-1)?.link as FakeLink;
  /** How long after `act` the next dial is made. */
  async function wait(act: () => void): Promise<number> {
    const atMs = clock.now();
    act();
    const before = dials.length;
    while (dials.length === before) await clock.advance(500);
    return (dials[before]?.atMs ?? 0) - atMs;
  }
  return {
    clock,
    dials,
    set,
    known,
    failsAtOnce,
    last,
    /** Ends these, and says how long the next dial took to come. */
    waitAfter: (...ended: FakeLink[]) =>
      wait(() => {
        for (const each of ended) each.end();
      }),
    wait,
    joined: (): FakeLink[] => set.links().filter(({ phase }) => phase === 'joined') as FakeLink[],
  };
}

describe('the set of links', () => {
  test('waits with full jitter: twice as much at most each time a dial comes to nothing, 60 s in the end', async () => {
    const { set, last, waitAfter } = createBench(0.999_999);
    set.start();
    const waits: number[] = [];
    for (let n = 0; n < 8; n += 1) waits.push(Math.round((await waitAfter(last())) / 1_000));
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
  });

  test('dials again behind a dial that failed before it was known', async () => {
    const { set, clock, dials, failsAtOnce, last } = createBench();
    failsAtOnce.next = true;
    set.start();
    expect(set.links()).toEqual([]);
    await clock.advance(1_000);
    expect(dials).toHaveLength(2);
    expect(set.links()).toEqual([last()]);
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

  test('takes links that are lost together for one outage', async () => {
    const { set, last, joined, waitAfter } = createBench(0.999_999);
    set.start();
    last().join('a');
    last().join('a');
    expect(Math.round((await waitAfter(...joined())) / 1_000)).toBe(1);
    // The dial that follows fails, and that alone doubles the wait.
    expect(Math.round((await waitAfter(last())) / 1_000)).toBe(2);
  });

  test('is back within 16 s of the last of many restarts, since a join forgets the dials that failed', async () => {
    const { set, last, joined, waitAfter } = createBench(0.999_999);
    set.start();
    const waits: number[] = [];
    for (let restart = 0; restart < 7; restart += 1) {
      last().join('a');
      last().join('a');
      waits.push(Math.round((await waitAfter(...joined())) / 1_000));
      await waitAfter(last());
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 16, 16]);
  });

  test('forgets its outages after a link was stable for 30 s, and no sooner', async () => {
    for (const [stableMs, expected] of [
      [29_999, 8],
      [30_000, 1],
    ] as const) {
      const { clock, set, last, joined, waitAfter } = createBench(0.999_999);
      set.start();
      for (let outage = 0; outage < 3; outage += 1) {
        last().join('a');
        last().join('a');
        await waitAfter(...joined());
      }
      last().join('a');
      last().join('a');
      await clock.advance(stableMs);
      expect(Math.round((await waitAfter(...joined())) / 1_000)).toBe(expected);
    }
  });

  test('waits for no dial that failed elsewhere when a link is lost', async () => {
    const { clock, set, last, joined, waitAfter } = createBench(0.5);
    set.start();
    last().join('a', 2);
    last().join('a', 2);
    // The other replica cannot be reached: the dials come to 30 s each.
    for (let n = 0; n < 8; n += 1) await waitAfter(last());
    last().end();
    await clock.advance(1);
    expect(await waitAfter(...joined())).toBe(500);
  });

  test('after GOAWAY waits as told and more, counts no failure, and keeps the old link meanwhile', async () => {
    const { clock, dials, set, last, known, waitAfter } = createBench(0.5);
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
    expect(await waitAfter(last())).toBe(500);
  });

  test('keeps sixteen links that are going, and lets the oldest go where a gateway sends away whoever joins', async () => {
    const { clock, dials, set, last, known } = createBench(0);
    set.start();
    for (let n = 0; n <= MAX_LEAVING; n += 1) {
      const link = last();
      link.join('a');
      link.handlers.onLeave(link, 0);
      await clock.advance(1);
    }
    expect(dials[0]?.link.phase).toBe('ended');
    expect(dials[1]?.link.phase).toBe('joined');
    expect(set.links()).toHaveLength(MAX_LEAVING + 1);
    expect(known.filter((word) => word === 'gone')).toHaveLength(MAX_LEAVING + 1);
  });

  test('looks for a replica that it does not find in rounds of as many dials as there are replicas, ever more apart', async () => {
    const { clock, dials, set, last, wait, joined } = createBench(0.999_999);
    set.start();
    last().join('a', 3);
    last().join('a', 3);
    const waits: number[] = [];
    for (let round = 0; round < 8; round += 1) {
      for (let dial = 0; dial < 2; dial += 1) last().join('a', 3);
      waits.push(Math.round((await wait(() => last().join('a', 3))) / 1_000));
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
    expect(joined()).toHaveLength(2);
    last().join('b', 3);
    last().join('b', 3);
    last().join('c', 3);
    last().join('c', 3);
    expect(set.links()).toHaveLength(6);
    const found = dials.length;
    await clock.advance(200_000);
    expect(dials).toHaveLength(found);
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
