import { afterEach, expect, test, vi } from 'vitest';
import { RUNNER_GRACE_MS } from '../../shared/limits.ts';
import type { FleetAgent, FleetGateway } from '../fakes/fleet.ts';
import { holdRun } from '../fakes/held-run.ts';
import { isAlive } from '../fakes/process-tree.ts';
import { until } from '../fakes/until.ts';
import { ask, describeFleet } from './suite.ts';
import { testWireFaults } from './wire-faults.ts';

// After some outages an agent waits up to 16 s before it dials.
vi.setConfig({ testTimeout: 90_000 });

// The table of DESIGN.md, "When things break", row by row, over processes and a wire that breaks. What takes a pod is in
// kubernetes.test.ts; what takes a clock or a peer that lies in gateway-links.test.ts.
describeFleet(
  'When things break:',
  {
    gateways: 1,
    agents: [{ cluster: 'lab' }, { cluster: 'away' }],
    tls: true,
    templates: [{ name: 'default', pool: { min: 1, max: 2 } }],
    variables: { PODGATE_HEARTBEAT_MS: '1000' },
  },
  (fleet) => {
    const gateway = () => fleet().gateways[0] as FleetGateway;
    const lab = () => fleet().agents[0] as FleetAgent;
    const away = () => fleet().agents[1] as FleetAgent;
    const wire = () => lab().wire;
    const hold = (key = fleet().key, request: object = {}) =>
      holdRun({ url: fleet().url, key }, { cluster: 'lab', ...request });
    const askLab = (code: string, rest: object = {}) => ask(fleet(), code, { cluster: 'lab', ...rest });

    /** A request whose START has left the gateway and reached nobody. */
    async function askIntoTheVoid() {
      wire().stall(true, 'down');
      const asked = askLab('print(1)');
      await expect
        .poll(async () => [await gateway().metric('running'), await gateway().metric('queued')], {
          interval: 5,
        })
        .toEqual([1, 0]);
      return asked;
    }

    afterEach(async () => {
      for (const { wire } of fleet().agents) {
        wire.accept(true);
        wire.stall(false);
        wire.corrupt(0);
        wire.setRate(Number.POSITIVE_INFINITY);
      }
      await fleet().ready();
    });

    test('no agent for the cluster is 503 no_agent, at once', async () => {
      away().kill('SIGTERM');
      await away().ended();
      const { status, body, headers, tookMs } = await ask(fleet(), '', {
        cluster: 'away',
        queue_timeout_ms: 60_000,
      }).answer;
      expect([status, body.code, body.retryable]).toEqual([503, 'no_agent', true]);
      expect(headers.get('retry-after')).toMatch(/^\d+$/);
      expect(tookMs).toBeLessThan(10_000);
    });

    test('all slots taken is a wait, then 503 at_capacity with Retry-After', async () => {
      await using first = await hold();
      await using _second = await hold();
      const late = askLab('', { queue_timeout_ms: 200 });
      const { status, body, headers } = await late.answer;
      expect([status, body.code, headers.get('retry-after'), late.runs()]).toEqual([
        503,
        'at_capacity',
        '1',
        0,
      ]);
      const patient = askLab('print(1)', { queue_timeout_ms: 20_000 });
      await first.leave();
      expect((await patient.answer).body.stdout).toBe('1\n');
    });

    test('a principal over its ceiling is 429 rate_limited with Retry-After', async () => {
      const key = await fleet().callerKey('busy', { concurrency: 1 });
      await using _held = await hold(key);
      const { status, body, headers } = await askLab('', { key }).answer;
      expect([status, body.code, headers.get('retry-after')]).toEqual([429, 'rate_limited', '1']);
    });

    test('a link lost before ACCEPT, its instance back and ignorant, is a run elsewhere, once', async () => {
      const asked = await askIntoTheVoid();
      wire().cut();
      wire().stall(false);
      expect((await asked.answer).body).toMatchObject({ stdout: '1\n', exit_code: 0 });
      expect(asked.runs()).toBe(1);
    });

    test('a link lost before ACCEPT, its instance out of reach, is 502 maybe_started, and did not run', async () => {
      const asked = await askIntoTheVoid();
      wire().accept(false);
      wire().cut();
      const { status, body } = await asked.answer;
      expect([status, body]).toEqual([
        502,
        expect.objectContaining({ code: 'maybe_started', started: 'unknown', retryable: false }),
      ]);
      wire().accept(true);
      wire().stall(false);
      await fleet().ready();
      expect(asked.runs()).toBe(0);
    });

    test('a caller who goes away ends the program and all it started', async () => {
      await using held = await hold();
      expect(held.alive()).toBe(1);
      await held.leave();
      await expect.poll(() => held.alive(), { interval: 2 }).toBe(0);
    });

    test('an agent that dies is 502 agent_lost with started, and its sandboxes die with it', async () => {
      // Longer than a second sandbox may take to come.
      const asked = askLab('import time; time.sleep(60)', { timeout_ms: 20_000 });
      await using held = await hold(fleet().key, { timeout_ms: 20_000, queue_timeout_ms: 20_000 });
      await until(() => asked.runs() === 1);
      lab().kill('SIGKILL');
      const { status, body } = await asked.answer;
      expect([status, body]).toEqual([
        502,
        expect.objectContaining({ code: 'agent_lost', started: 'yes', retryable: false }),
      ]);
      expect(await held.last).toMatchObject({ event: 'error', data: { code: 'agent_lost', started: 'yes' } });
      await until(() => held.alive() === 0);
      await until(() => lab().leftBehind().length === 0);
      await fleet().ready();
      expect(asked.runs()).toBe(1);
    });

    test('a runner that is silent past its timeout and 2 s is timed_out', async () => {
      const asked = askLab('import time; time.sleep(60)', { timeout_ms: 500 });
      await until(() => asked.runs() === 1);
      const stopped = lab().sandboxProcesses();
      const signal = (name: NodeJS.Signals) => {
        for (const each of stopped) if (isAlive(each)) process.kill(each.pid, name);
      };
      signal('SIGSTOP');
      const { status, body, tookMs } = await asked.answer;
      expect([status, body]).toEqual([200, expect.objectContaining({ timed_out: true, exit_code: null })]);
      expect(tookMs).toBeGreaterThan(500 + RUNNER_GRACE_MS);
      signal('SIGCONT');
    });

    test.for([
      ['fails', 'raise SystemExit(3)', { exit_code: 3, outcome: 'exited' }],
      ['kills itself', 'import os; os.kill(os.getpid(), 9)', { exit_code: 137, outcome: 'signaled' }],
      ['runs out of time', 'while True: pass', { timed_out: true, exit_code: null, outcome: 'timed_out' }],
      [
        'runs out of memory',
        'import mmap; m = mmap.mmap(-1, 1 << 31)\nfor i in range(0, 1 << 31, 4096): m[i] = 1',
        { exit_code: 137, outcome: 'memory_limit' },
      ],
    ] as const)('a program that %s is 200 with the outcome', async ([, code, outcome]) => {
      const asked = askLab(code, { timeout_ms: 1_500 });
      const { status, body } = await asked.answer;
      expect([status, body]).toEqual([200, expect.objectContaining(outcome)]);
      expect(asked.runs()).toBe(1);
    });

    testWireFaults({ fleet, gateway, agent: lab });
  },
);
