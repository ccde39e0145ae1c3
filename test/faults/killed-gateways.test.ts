import { expect, test, vi } from 'vitest';
import type { FleetAgent, FleetGateway } from '../fakes/fleet.ts';
import { freePort } from '../fakes/free-port.ts';
import { isAlive } from '../fakes/process-tree.ts';
import { ask, describeFleet } from './suite.ts';

vi.setConfig({ testTimeout: 120_000 });
const agentPort = await freePort();

describeFleet(
  'A gateway that is killed between ACCEPT and STARTED',
  {
    gateways: 1,
    agents: [{ cluster: 'lab', variables: { PODGATE_AGENT_PORT: String(agentPort) } }],
    templates: [{ name: 'default', reuse: 'reset', pool: { min: 1, max: 1 } }],
  },
  (fleet) => {
    const lab = () => fleet().agents[0] as FleetAgent;
    const gateway = () => fleet().gateways[0] as FleetGateway;

    async function inState(state: string): Promise<void> {
      const look = async () => {
        const text = await (await fetch(`http://127.0.0.1:${agentPort}/metrics`)).text();
        return Number(
          new RegExp(`^podgate_agent_sandboxes{.*state="${state}".*} (\\S+)$`, 'm').exec(text)?.[1],
        );
      };
      await expect.poll(look, { interval: 5, timeout: 60_000 }).toBe(1);
    }

    /** A request that the agent has accepted, in a sandbox that stands still; its gateway is gone. */
    async function cutOff(headers: Record<string, string>) {
      await fleet().ready();
      await inState('idle');
      const stopped = lab().sandboxProcesses();
      for (const { pid } of stopped) process.kill(pid, 'SIGSTOP');
      const asked = ask(fleet(), 'print(1)', { headers, queue_timeout_ms: 60_000 });
      await inState('taken');
      gateway().kill('SIGKILL');
      await expect(asked.answer).rejects.toThrow();
      expect(asked.runs()).toBe(0);
      return {
        asked,
        goOn() {
          for (const each of stopped) if (isAlive(each)) process.kill(each.pid, 'SIGCONT');
        },
      };
    }

    test('breaks its caller’s connection; who asks again under the key is answered by what began, once', async () => {
      const { asked, goOn } = await cutOff({ 'idempotency-key': 'cut-off' });
      await gateway().ended();
      goOn();
      await fleet().ready();
      const again = asked.again();
      const { status, body } = await again.answer;
      expect([status, body.stdout, asked.runs()]).toEqual([200, '1\n', 1]);
    });

    test('costs a caller without a key the answer, and leaves nothing behind', async () => {
      const { asked, goOn } = await cutOff({});
      await gateway().ended();
      goOn();
      await fleet().ready();
      await inState('idle');
      const next = ask(fleet(), 'print(2)', { queue_timeout_ms: 60_000 });
      expect((await next.answer).body.stdout).toBe('2\n');
      // None where the last byte of its input was still on its way.
      expect(asked.runs()).toBeLessThanOrEqual(1);
      expect([await gateway().metric('running'), await gateway().metric('queued')]).toEqual([0, 0]);
    });
  },
);
