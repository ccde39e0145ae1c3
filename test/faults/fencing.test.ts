import { afterEach, expect, test } from 'vitest';
import { ORPHAN_MS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { FleetAgent, FleetGateway } from '../fakes/fleet.ts';
import { type HeldRun, holdRun } from '../fakes/held-run.ts';
import { type Asked, ask, describeFleet } from './suite.ts';

const TEST_MS = 120_000;
/** The gateway gives an instance up that has not come back by then. */
const GIVE_UP_MS = 30_000;
const POLL = { interval: 50, timeout: ORPHAN_MS + GIVE_UP_MS };

// A laptop that sleeps, a network that is away: whoever waited was told that the work is lost, and that stays so.
describeFleet(
  'An instance that comes back',
  {
    gateways: 1,
    agents: [{ cluster: 'lab' }, { cluster: 'lab' }, { cluster: 'away' }],
    templates: [{ name: 'default', pool: { min: 2, max: 4 } }],
    variables: { PODGATE_HEARTBEAT_MS: '1000' },
  },
  (fleet) => {
    const gateway = () => fleet().gateways[0] as FleetGateway;
    const [first, second, away] = [0, 1, 2].map((index) => () => fleet().agents[index] as FleetAgent) as [
      () => FleetAgent,
      () => FleetAgent,
      () => FleetAgent,
    ];
    const instancesOf = async (name: string) => {
      const { clusters } = await fleet().client(gateway()).clusters.list();
      return clusters.find((cluster) => cluster.name === name)?.instances ?? [];
    };
    const instanceOf = async (agent: FleetAgent) =>
      String((await agent.logged(({ event }) => event === 'agent_started')).instance);

    afterEach(async () => {
      for (const agent of fleet().agents) {
        agent.kill('SIGCONT');
        agent.wire.stall(false);
        agent.wire.accept(true);
      }
      await fleet().ready();
    });

    /** Work that is given up while its agent is away: one that nobody reads any more, and one whose caller was told. */
    async function giveUp(isAway: (on: boolean) => void): Promise<{ held: HeldRun; asked: Asked }> {
      const held = await holdRun({ url: fleet().url, key: fleet().key }, { cluster: 'away' });
      const before = await gateway().metric('output_bytes');
      const code = 'import time; print("begun"); time.sleep(3); print("late")';
      const asked = ask(fleet(), code, { cluster: 'away', timeout_ms: 60_000 });
      // That it runs is no word of its agent's. Output is: it comes behind ACCEPT and STARTED, into memory beside what a place takes.
      const placed = before + STREAM_WINDOW_BYTES;
      await expect.poll(() => gateway().metric('output_bytes'), POLL).toBeGreaterThan(placed);
      isAway(true);
      const { status, body } = await asked.answer;
      expect([status, body]).toEqual([
        502,
        expect.objectContaining({ code: 'agent_lost', started: 'yes', retryable: false }),
      ]);
      expect(await held.last).toMatchObject({ event: 'error', data: { code: 'agent_lost', started: 'yes' } });
      isAway(false);
      return { held, asked };
    }

    test.for([
      ['its machine slept', (on: boolean) => away().kill(on ? 'SIGSTOP' : 'SIGCONT')],
      ['its network was away', (on: boolean) => away().wire.stall(on)],
    ] as const)(
      'after %s answers for nothing that was given up, ends it, and is used again',
      { timeout: TEST_MS },
      async ([, isAway]) => {
        const { held, asked } = await giveUp(isAway);
        await fleet().ready();
        const after = await ask(fleet(), 'print("mine")', { cluster: 'away' }).answer;
        expect([after.status, after.body.stdout]).toEqual([200, 'mine\n']);
        await expect.poll(() => held.alive(), POLL).toBe(0);
        expect(asked.runs()).toBe(1);
      },
    );

    test('keeps its first-seen, beside every other instance of its cluster', async () => {
      const before = await instancesOf('lab');
      expect(before.map(({ instance }) => instance).sort()).toEqual(
        [await instanceOf(first()), await instanceOf(second())].sort(),
      );
      first().wire.accept(false);
      first().wire.cut();
      await expect.poll(() => instancesOf('lab').then(({ length }) => length), POLL).toBe(1);
      first().wire.accept(true);
      await fleet().ready();
      expect(await instancesOf('lab')).toEqual(before);
    });

    test('as a new run of its agent is a new instance, seen first now', async () => {
      const [before] = await instancesOf('away');
      away().kill('SIGKILL');
      await away().ended();
      await fleet().ready();
      const [after, ...others] = await instancesOf('away');
      expect([after?.instance, others]).toEqual([await instanceOf(away()), []]);
      expect(after?.first_seen).toBeGreaterThan(before?.first_seen ?? Number.POSITIVE_INFINITY);
    });
  },
);
