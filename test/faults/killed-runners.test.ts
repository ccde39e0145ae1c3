import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { readServerSentEvents } from '../../client/server-sent-events.ts';
import type { FleetAgent, FleetGateway } from '../fakes/fleet.ts';
import { freePort } from '../fakes/free-port.ts';
import { parentOf } from '../fakes/process-tree.ts';
import { until } from '../fakes/until.ts';
import { ask, describeFleet } from './suite.ts';

// A sandbox that takes another's place is made under whatever else the machine does.
vi.setConfig({ testTimeout: 120_000 });
const PATIENT = { queue_timeout_ms: 60_000, timeout_ms: 30_000 };
/** More than all windows and pipes between a gateway and a runner hold. */
const MUCH = 'x'.repeat(4_000_000);
const BIG_BYTES = 50_000_000;
const LITTERS = `
import os
for n in range(20_000): os.close(os.open(f"/tmp/{n}", os.O_CREAT | os.O_WRONLY))
`;
/** A reset may be over before it is met. */
const MEETINGS = 20;

const agentPort = await freePort();
const store = await mkdtemp(join(tmpdir(), 'podgate-killed-'));

describeFleet(
  'A runner that is killed',
  {
    gateways: 1,
    agents: [{ cluster: 'lab', variables: { PODGATE_AGENT_PORT: String(agentPort) } }],
    templates: [{ name: 'default', reuse: 'reset', pool: { min: 1, max: 1 } }],
    variables: { FILE_STORAGE_DIR: store },
  },
  (fleet) => {
    const lab = () => fleet().agents[0] as FleetAgent;
    const gateway = () => fleet().gateways[0] as FleetGateway;

    /** Processes of the one sandbox: its keeper, the runner below it, the zygote below that. */
    function sandbox() {
      const below = (parent: number | undefined) =>
        lab()
          .sandboxProcesses()
          .find(({ pid }) => parentOf(pid) === parent)?.pid;
      const runner = below(below(lab().pid) ?? -1);
      return { runner, zygote: below(runner ?? -1) };
    }

    function signal(pid: number | undefined, name: NodeJS.Signals): void {
      expect(pid).toBeDefined();
      process.kill(pid as number, name);
    }

    async function sandboxes(state: string): Promise<number> {
      const text = await (await fetch(`http://127.0.0.1:${agentPort}/metrics`)).text();
      return Number(
        new RegExp(`^podgate_agent_sandboxes{.*state="${state}".*} (\\S+)$`, 'm').exec(text)?.[1],
      );
    }

    const inState = (state: string) =>
      expect.poll(() => sandboxes(state), { interval: 5, timeout: 60_000 }).toBe(1);

    afterEach(async () => {
      await fleet().ready();
      // Whatever became of the one before.
      expect((await ask(fleet(), 'print(1)', PATIENT).answer).body.stdout).toBe('1\n');
      await inState('idle');
      expect([await gateway().metric('running'), await gateway().metric('queued')]).toEqual([0, 0]);
    }, 120_000);

    afterAll(() => rm(store, { recursive: true }));

    test('while it takes input is replaced by another, which runs the program, once', async () => {
      const { runner } = sandbox();
      signal(runner, 'SIGSTOP');
      const asked = ask(fleet(), 'import sys; print(len(sys.stdin.read()))', { ...PATIENT, stdin: MUCH });
      await inState('taken');
      signal(runner, 'SIGKILL');
      const { status, body } = await asked.answer;
      expect([status, body.stdout, asked.runs()]).toEqual([200, `${MUCH.length}\n`, 1]);
    });

    test('with all its input before the program began is not started for sure, or replaced', async () => {
      const { runner } = sandbox();
      signal(runner, 'SIGSTOP');
      const asked = ask(fleet(), 'print(1)', PATIENT);
      await inState('taken');
      signal(runner, 'SIGKILL');
      const { status, body } = await asked.answer;
      // Which of the two depends on whether the last byte of input had come.
      if (status === 200) expect([body.stdout, asked.runs()]).toEqual(['1\n', 1]);
      else {
        expect([status, body]).toEqual([
          502,
          expect.objectContaining({ code: 'sandbox_lost', started: 'unknown', retryable: false }),
        ]);
        expect(asked.runs()).toBe(0);
      }
    });

    test('while its program runs is 502 sandbox_lost, started yes, and the program is gone', async () => {
      const asked = ask(fleet(), 'import time; time.sleep(60)', PATIENT);
      await until(() => asked.runs() === 1);
      const { runner } = sandbox();
      const ofProgram = lab().sandboxProcesses();
      signal(runner, 'SIGKILL');
      const { status, body } = await asked.answer;
      expect([status, body]).toEqual([
        502,
        expect.objectContaining({ code: 'sandbox_lost', started: 'yes', retryable: false }),
      ]);
      await until(() => {
        const now = new Set(
          lab()
            .sandboxProcesses()
            .map(({ pid, startTime }) => `${pid} ${startTime}`),
        );
        return !ofProgram.some(({ pid, startTime }) => now.has(`${pid} ${startTime}`));
      });
      expect(asked.runs()).toBe(1);
    });

    test('while its program prints ends the stream with an error, behind what had come', async () => {
      const response = await fetch(`${fleet().url}/v1/execute/stream`, {
        method: 'POST',
        headers: { authorization: `Bearer ${fleet().key}`, 'content-type': 'application/json' },
        body: JSON.stringify({
          code: 'n = 0\nwhile True:\n  print(n)\n  n += 1',
          max_output_bytes: 1_000_000,
          ...PATIENT,
        }),
      });
      let text = '';
      let last: { event: string; data: string } | undefined;
      let runner: number | undefined;
      for await (const message of readServerSentEvents(response.body as ReadableStream<Uint8Array>)) {
        last = message;
        if (message.event !== 'output') continue;
        text += JSON.parse(message.data).data;
        if (runner === undefined) {
          runner = sandbox().runner;
          signal(runner, 'SIGKILL');
        }
      }
      expect([last?.event, JSON.parse(last?.data ?? 'null')]).toEqual([
        'error',
        expect.objectContaining({ code: 'sandbox_lost', started: 'yes' }),
      ]);
      const lines = text.split('\n').slice(0, -1);
      expect(lines.length).toBeGreaterThan(0);
      expect(lines.every((line, n) => line === String(n))).toBe(true);
    });

    test('while its files are collected is 502 sandbox_lost, and none of them is kept', async () => {
      const code = `import os; open("big", "wb").write(os.urandom(${BIG_BYTES}))`;
      const asked = ask(fleet(), code, PATIENT);
      await until(() => asked.runs() === 1);
      await vi.waitUntil(async () => (await stored()) > 0, { interval: 1, timeout: 60_000 });
      const { runner } = sandbox();
      signal(runner, 'SIGKILL');
      const { status, body } = await asked.answer;
      expect([status, body]).toEqual([
        502,
        expect.objectContaining({ code: 'sandbox_lost', started: 'yes', retryable: false }),
      ]);
      await expect.poll(stored, { interval: 5, timeout: 20_000 }).toBe(0);
      expect(asked.runs()).toBe(1);
    });

    test('in a reset is replaced, and nobody finds what it had not cleared', async () => {
      const met: unknown[] = [];
      for (let meeting = 0; meeting < MEETINGS && !met.includes('discarded'); meeting += 1) {
        await inState('idle');
        const { runner } = sandbox();
        const asked = ask(fleet(), LITTERS, PATIENT);
        const { status, body, headers } = await asked.answer;
        signal(runner, 'SIGKILL');
        expect([status, body.outcome]).toEqual([200, 'exited']);
        const id = headers.get('podgate-execution-id');
        const told = await lab().logged((line) => line.event === 'execution' && line.execution_id === id);
        met.push(told.sandbox_settled);
        const after = ask(fleet(), 'import os; print(len(os.listdir("/tmp")))', PATIENT);
        expect((await after.answer).body).toMatchObject({ stdout: '0\n', exit_code: 0 });
      }
      expect(met).toContain('discarded');
    });

    test('but for what starts its programs, which is killed more than once, sends its execution to another', async () => {
      const first = sandbox();
      signal(first.zygote, 'SIGKILL');
      await until(() => ![undefined, first.zygote].includes(sandbox().zygote));
      // The second is there, and may not have said so yet: it is killed once it has served.
      expect((await ask(fleet(), 'print(1)', PATIENT).answer).body.stdout).toBe('1\n');
      await inState('idle');
      const second = sandbox();
      expect(second.runner).toBe(first.runner);
      signal(second.zygote, 'SIGKILL');
      await until(() => sandbox().zygote === undefined);
      const asked = ask(fleet(), 'print(2)', PATIENT);
      const { status, body } = await asked.answer;
      expect([status, body.stdout, asked.runs()]).toEqual([200, '2\n', 1]);
      expect(sandbox().runner).not.toBe(first.runner);
    });
  },
);

/** How many bytes of files the gateway has, whole or on their way. */
async function stored(): Promise<number> {
  const found = await Promise.all(
    ['incoming', 'owners'].map(async (folder) => {
      const names = await readdir(join(store, folder), { recursive: true }).catch(() => []);
      return Promise.all(names.map((name) => stat(join(store, folder, name)).catch(() => undefined)));
    }),
  );
  return found.flat().reduce((sum, each) => sum + (each?.isFile() ? each.size : 0), 0);
}
