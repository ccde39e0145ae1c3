import { afterEach, expect, onTestFinished, test } from 'vitest';
import type { Fleet, FleetAgent, FleetGateway } from '../fakes/fleet.ts';
import type { FleetProcess } from '../fakes/fleet-process.ts';
import { until } from '../fakes/until.ts';
import { type Answer, type Asked, ask, describeFleet } from './suite.ts';

const CALLERS = 6;
const LINKS_PER_REPLICA = 2;
/** For four processes that end and begin one after the other, on a busy machine. */
const RESTARTS_MS = 240_000;

/** Callers that ask one thing after the other until they are told to stop or the test is over, over connections that they keep. */
function startLoad(fleet: Fleet): { stop(): Promise<{ asked: Asked; answer: Answer }[]> } {
  const done: { asked: Asked; answer: Answer }[] = [];
  let stopped = false;
  const callers = Array.from({ length: CALLERS }, async () => {
    while (!stopped) {
      const asked = ask(fleet, 'import time; time.sleep(0.15); print("whole")', {
        timeout_ms: 20_000,
        queue_timeout_ms: 20_000,
      });
      done.push({ asked, answer: await asked.answer });
    }
  });
  const ended = Promise.all(callers);
  ended.catch(() => {});
  onTestFinished(() => {
    stopped = true;
  });
  return {
    async stop() {
      stopped = true;
      await ended;
      return done;
    },
  };
}

function expectAllServed(done: readonly { asked: Asked; answer: Answer }[]): void {
  const failed = done.filter(({ asked, answer }) => answer.body.stdout !== 'whole\n' || asked.runs() !== 1);
  expect(failed.map(({ asked, answer }) => [answer.status, answer.body, asked.runs()])).toEqual([]);
  expect(done.length).toBeGreaterThan(CALLERS * 2);
}

/** Ends a process as an orchestrator does. */
async function end(process: FleetProcess): Promise<void> {
  await process.logged(({ event }) => event === 'gateway_started' || event === 'agent_started');
  process.kill('SIGTERM');
  expect(await process.ended()).toBe(0);
}

async function restart(process: FleetProcess): Promise<void> {
  await end(process);
  process.start();
}

describeFleet(
  'Two gateways behind one address, with two agents,',
  {
    gateways: 2,
    agents: [{ cluster: 'lab' }, { cluster: 'lab' }],
    templates: [{ name: 'default', pool: { min: 2, max: 4 } }],
    variables: { PODGATE_HEARTBEAT_MS: '1000', PODGATE_DRAIN_DELAY_MS: '1000' },
  },
  (fleet) => {
    const [first, second] = [
      () => fleet().gateways[0] as FleetGateway,
      () => fleet().gateways[1] as FleetGateway,
    ];
    afterEach(async () => {
      fleet().entrance.setTargets(fleet().gateways);
      await fleet().ready();
      fleet().balancer.setTargets(fleet().gateways);
    });

    test('hold two links each to each other, and each gateway runs code on either agent', async () => {
      for (const gateway of fleet().gateways) {
        expect(await gateway.metric('links')).toBe(fleet().agents.length * LINKS_PER_REPLICA);
        const { clusters } = await fleet().client(gateway).clusters.list();
        expect(clusters).toMatchObject([{ name: 'lab' }]);
        expect((await ask(fleet(), 'print(1)', { gateway }).answer).body.stdout).toBe('1\n');
      }
    });

    test('lose no request in a rolling restart of gateways and agents under load', {
      timeout: RESTARTS_MS,
    }, async () => {
      const load = startLoad(fleet());
      for (const process of [...fleet().gateways, ...fleet().agents]) {
        await end(process);
        // A gateway that begins has no agent, and nobody is sent to it before it is ready.
        fleet().balancer.setTargets(fleet().gateways.filter((gateway) => gateway !== process));
        process.start();
        await fleet().ready();
        fleet().balancer.setTargets(fleet().gateways);
      }
      expectAllServed(await load.stop());
    });

    test('leave a gateway without a link to say 503 with Retry-After at once, and link to it when they find it', async () => {
      fleet().entrance.setTargets([first()]);
      await restart(second());
      await second().logged(({ event }) => event === 'gateway_started');
      const { status, body, headers, tookMs } = await ask(fleet(), '', {
        gateway: second(),
        queue_timeout_ms: 60_000,
      }).answer;
      expect([status, body.code, body.retryable]).toEqual([503, 'no_agent', true]);
      expect(headers.get('retry-after')).toMatch(/^\d+$/);
      expect(tookMs).toBeLessThan(10_000);
      expect((await fetch(`${second().url}/ready`)).status).toBe(503);
      expect((await ask(fleet(), 'print(1)', { gateway: first() }).answer).status).toBe(200);
    });

    test('stay linked to the one while the other drains, and its program ends whole', async () => {
      const asked = ask(fleet(), 'import time; time.sleep(2); print("whole")', {
        gateway: first(),
        timeout_ms: 10_000,
      });
      await until(() => asked.runs() === 1);
      first().kill('SIGTERM');
      await first().logged(({ event }) => event === 'gateway_draining');
      expect((await ask(fleet(), 'print(1)', { gateway: second() }).answer).status).toBe(200);
      expect((await asked.answer).body).toMatchObject({ stdout: 'whole\n', exit_code: 0 });
      expect(await first().ended()).toBe(0);
    });
  },
);

describeFleet(
  'A drain that reaches its deadline',
  {
    gateways: 1,
    agents: [{ cluster: 'lab' }],
    templates: [{ name: 'default', pool: { min: 1, max: 2 } }],
    variables: { PODGATE_DRAIN_MS: '500' },
  },
  (fleet) => {
    afterEach(() => fleet().ready());

    test.for([
      ['agent', () => fleet().agents[0] as FleetAgent],
      ['gateway', () => fleet().gateways[0] as FleetGateway],
    ] as const)(
      'of the %s is 502 draining for what had started, which no client sends again',
      async ([, which]) => {
        const asked = ask(fleet(), 'import time; time.sleep(60)', { timeout_ms: 60_000 });
        await until(() => asked.runs() === 1);
        which().kill('SIGTERM');
        const { status, body } = await asked.answer;
        expect([status, body]).toEqual([
          502,
          expect.objectContaining({ code: 'draining', started: 'yes', retryable: false }),
        ]);
        expect(await which().ended()).toBe(0);
      },
    );

    test('does not keep an agent away, however often its gateway is restarted', async () => {
      const [gateway] = fleet().gateways as [FleetGateway];
      for (let restarts = 0; restarts < 3; restarts += 1) await restart(gateway);
      const beganMs = performance.now();
      await fleet().ready();
      expect(performance.now() - beganMs).toBeLessThan(17_000);
    });
  },
);
