import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Fleet, FleetAgent, FleetGateway } from '../fakes/fleet.ts';
import { until } from '../fakes/until.ts';
import { ask } from './suite.ts';

/** Long enough to be noticed, shorter than a dead link's 2.5 heartbeats. */
const SHORT_MS = 1_500;
const BYTES = 300_000;
const PRINT = `print("x" * ${BYTES}, end="")`;
const digest = (text: string) => createHash('sha256').update(text).digest('hex');
const PRINTED = digest('x'.repeat(BYTES));
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export type WireFaultsOptions = {
  fleet: () => Fleet;
  gateway: () => FleetGateway;
  /** The only one of its cluster. */
  agent: () => FleetAgent;
};

/** What becomes of executions while a wire or an end of it is out of order; the backend behind it is all the same. */
export function testWireFaults({ fleet, gateway, agent }: WireFaultsOptions): void {
  const wire = () => agent().wire;
  const askIt = (code: string, rest: object = {}) =>
    ask(fleet(), code, { cluster: agent().cluster, ...rest });

  test.for([
    ['stalls', (on: boolean) => wire().stall(on)],
    ['stalls in one direction', (on: boolean) => wire().stall(on, 'up')],
    ['is slow', (on: boolean) => wire().setRate(on ? 100_000 : Number.POSITIVE_INFINITY)],
    ['has an agent that is stopped', (on: boolean) => agent().kill(on ? 'SIGSTOP' : 'SIGCONT')],
    ['has a gateway that is stopped', (on: boolean) => gateway().kill(on ? 'SIGSTOP' : 'SIGCONT')],
  ] as const)('a link that %s for a while is noticed by nobody', async ([, fault]) => {
    const asked = askIt(`import time; time.sleep(0.3); ${PRINT}`, { timeout_ms: 10_000 });
    await until(() => asked.runs() === 1);
    fault(true);
    await pause(SHORT_MS);
    fault(false);
    const { status, body } = await asked.answer;
    expect([status, digest(body.stdout), body.outcome, asked.runs()]).toEqual([200, PRINTED, 'exited', 1]);
  });

  test.for([
    ['is cut', () => wire().cut()],
    ['only the agent knows is gone', () => wire().halfOpen('dialler')],
    ['only the gateway knows is gone', () => wire().halfOpen('target')],
    ['corrupts', () => wire().corrupt(1)],
  ] as const)(
    'a link that %s is replaced, and what is asked meanwhile runs or says why not',
    async ([, fault]) => {
      fault();
      for (let n = 0; n < 4; n += 1) {
        const asked = askIt(PRINT, { timeout_ms: 5_000 });
        const { status, body } = await asked.answer;
        if (status === 200) expect([digest(body.stdout), asked.runs()]).toEqual([PRINTED, 1]);
        else if (status === 503) expect([body.code, asked.runs()]).toEqual(['no_agent', 0]);
        else
          expect([body.code, body.started]).toEqual([
            expect.stringMatching(/agent_lost|maybe_started/),
            expect.stringMatching(/^(yes|unknown)$/),
          ]);
        await pause(100);
      }
      await fleet().ready();
      expect((await askIt(PRINT).answer).status).toBe(200);
    },
  );
}
