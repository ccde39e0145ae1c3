import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createMockGateway, type MockGateway, type MockLink } from '../fakes/mock-gateway.ts';
import { testCredential } from '../fakes/test-agent.ts';
import { until } from '../fakes/until.ts';

const ENTRY = fileURLToPath(new URL('../fakes/agent-process.ts', import.meta.url));

type AgentProcess = {
  child: ChildProcess;
  mock: MockGateway;
  link: MockLink;
  lines: Record<string, unknown>[];
};

async function startAgentProcess(environment: Record<string, string> = {}): Promise<AgentProcess> {
  const mock = await createMockGateway();
  const child = spawn(process.execPath, [ENTRY], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env.PATH,
      EXECUTOR_BACKEND: 'local',
      PODGATE_GATEWAY_URL: mock.url.href,
      PODGATE_AGENT_TOKEN: (await testCredential()).reveal(),
      PODGATE_CLUSTER: 'here',
      PODGATE_AGENT_PORT: '0',
      MAX_OUTPUT_BYTES: '2000000000',
      POOL_SIZE: '2',
      ...environment,
    },
  });
  const lines: Record<string, unknown>[] = [];
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) =>
    lines.push(JSON.parse(line)),
  );
  const link = await mock.nextLink();
  await link.next('SLOTS', ({ grants }) => grants.length > 0);
  return { child, mock, link, lines };
}

async function stop({ child, mock }: AgentProcess): Promise<void> {
  if (child.exitCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  await mock.close();
}

const ended = async (link: MockLink, stream: number) =>
  (await link.next('EXIT', (_body, on) => on === stream)).body;
const descendants = (pid: number): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid ? [Number(name)] : [];
      } catch {
        return [];
      }
    });
const residentMb = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024;

describe('an agent process with real sandboxes', () => {
  let agent: AgentProcess;
  beforeAll(async () => {
    agent = await startAgentProcess();
  });
  afterAll(() => stop(agent));

  test('runs code, stdin and exit codes through', async () => {
    const { link } = agent;
    const stream = link.start(
      {},
      { code: 'import sys\nprint(sys.stdin.read().upper())\nsys.exit(3)', stdin: 'hello' },
    );
    const { result } = await ended(link, stream);
    expect(result).toMatchObject({ outcome: 'exited', exit_code: 3, timed_out: false });
    expect(link.text(stream, 1)).toBe('HELLO\n');
  });

  test('brings more input than a window to the program, whole', async () => {
    const { link } = agent;
    const stdin = 'x'.repeat(3_000_000);
    const stream = link.start({}, { code: 'import sys\nprint(len(sys.stdin.read()))', stdin });
    expect((await ended(link, stream)).result?.outcome).toBe('exited');
    expect(link.text(stream, 1)).toBe('3000000\n');
  });

  test('brings more output than a window back, whole', async () => {
    const { link } = agent;
    const limits = {
      timeout_ms: 20_000,
      max_output_bytes: 50_000_000,
      memory_mb: null,
      cpu_seconds: null,
      output_limit_bytes: null,
    };
    const stream = link.start(
      { limits },
      { code: 'import sys\nfor n in range(20):\n  sys.stdout.write(str(n % 10) * 1_000_000)' },
    );
    expect((await ended(link, stream)).result).toMatchObject({
      stdout_bytes: 20_000_000,
      stdout_truncated: false,
    });
    const text = link.text(stream, 1);
    expect(text).toHaveLength(20_000_000);
    expect(/^0+1+2+3+4+5+6+7+8+9+0+1+2+3+4+5+6+7+8+9+$/.test(text)).toBe(true);
    link.output.clear();
  });

  test('stays small while a reader takes nothing, and serves others beside it', async () => {
    const { link, child } = agent;
    const pid = child.pid as number;
    const before = residentMb(pid);
    link.autoWindow = false;
    const limits = {
      timeout_ms: 20_000,
      max_output_bytes: 2_000_000_000,
      memory_mb: null,
      cpu_seconds: null,
      output_limit_bytes: null,
    };
    const stalled = link.start(
      { limits },
      { code: 'import sys\nwhile True: sys.stdout.write("x" * 1_000_000)' },
    );
    await link.next('STARTED', (_body, on) => on === stalled);
    while (link.text(stalled, 1).length < 262_144) await new Promise((resolve) => setTimeout(resolve, 5));
    for (let n = 0; n < 5; n += 1) {
      const stream = link.start({}, { code: 'print(1)' });
      expect((await ended(link, stream)).result?.outcome).toBe('exited');
    }
    expect(link.text(stalled, 1)).toHaveLength(262_144);
    expect(residentMb(pid) - before).toBeLessThan(32);
    link.send('CANCEL', { reason: 'reader_stalled' }, stalled);
    expect((await ended(link, stalled)).result).toMatchObject({ outcome: 'cancelled', exit_code: null });
    link.autoWindow = true;
  });

  test('tells timeout, memory and signal apart, and runs the next one', async () => {
    const { link } = agent;
    const limits = {
      timeout_ms: 300,
      max_output_bytes: 1_000,
      memory_mb: null,
      cpu_seconds: null,
      output_limit_bytes: null,
    };
    const slow = link.start({ limits }, { code: 'import time\ntime.sleep(60)' });
    expect((await ended(link, slow)).result).toMatchObject({ outcome: 'timed_out', exit_code: null });
    const killed = link.start({}, { code: 'import os\nos.kill(os.getpid(), 9)' });
    expect((await ended(link, killed)).result).toMatchObject({
      outcome: 'signaled',
      signal: 9,
      exit_code: 137,
    });
    const next = link.start({}, { code: 'print("next")' });
    expect((await ended(link, next)).result?.exit_code).toBe(0);
    expect(link.text(next, 1)).toBe('next\n');
  });

  test('runs many at once on few sandboxes', async () => {
    const { link } = agent;
    const streams = Array.from({ length: 40 }, (_, n) =>
      link.start({ accept_within_ms: 25_000 }, { code: `print(${n})` }),
    );
    await Promise.all(streams.map((stream) => ended(link, stream)));
    expect(streams.map((stream) => link.text(stream, 1))).toEqual(streams.map((_, n) => `${n}\n`));
  });
});

describe('SIGTERM', () => {
  test('lets what runs end, destroys every sandbox, and exits with 0', async () => {
    const agent = await startAgentProcess();
    const { child, link, lines } = agent;
    const stream = link.start({}, { code: 'import time\ntime.sleep(0.5)\nprint("done")' });
    await link.next('STARTED', (_body, on) => on === stream);
    const sandboxes = descendants(child.pid as number);
    expect(sandboxes.length).toBeGreaterThan(0);
    child.kill('SIGTERM');
    const exited = once(child, 'exit');
    await link.next('DRAIN');
    const late = link.start();
    expect((await link.next('NACK', (_body, on) => on === late)).body.code).toBe('draining');
    expect((await ended(link, stream)).result?.exit_code).toBe(0);
    expect(link.text(stream, 1)).toBe('done\n');
    expect(await exited).toEqual([0, null]);
    expect((await link.closed).code).toBe(4503);
    for (const pid of sandboxes) expect(() => process.kill(pid, 0)).toThrow();
    expect(lines.at(-1)).toMatchObject({ event: 'agent_stopped' });
    await stop(agent);
  });

  test('told so while an interpreter does not answer, ends without waiting for it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'podgate-python-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    await chmod(folder, 0o755);
    await writeFile(join(folder, 'python3'), '#!/bin/sh\nexec sleep 600\n', { mode: 0o755 });
    const child = spawn(process.execPath, [ENTRY], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: `${folder}:${process.env.PATH}`,
        EXECUTOR_BACKEND: 'local',
        PODGATE_GATEWAY_URL: 'http://127.0.0.1:1',
        PODGATE_AGENT_TOKEN: (await testCredential()).reveal(),
        PODGATE_CLUSTER: 'here',
        PODGATE_AGENT_PORT: '0',
      },
    });
    const said = text(child.stdout);
    await until(() => descendants(child.pid as number).length > 0);
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(await said).toBe('');
  });

  test('past PODGATE_DRAIN_MS ends what runs with a clear code', async () => {
    const agent = await startAgentProcess({ PODGATE_DRAIN_MS: '50', MAX_EXEC_TIMEOUT_MS: '60000' });
    const { child, link } = agent;
    const limits = {
      timeout_ms: 60_000,
      max_output_bytes: 1_000,
      memory_mb: null,
      cpu_seconds: null,
      output_limit_bytes: null,
    };
    const stream = link.start({ limits }, { code: 'import time\ntime.sleep(60)' });
    await link.next('STARTED', (_body, on) => on === stream);
    child.kill('SIGTERM');
    expect(await ended(link, stream)).toMatchObject({ failure: { code: 'draining', started: 'yes' } });
    if (child.exitCode === null) await once(child, 'exit');
    expect(child.exitCode).toBe(0);
    await stop(agent);
  });
});
