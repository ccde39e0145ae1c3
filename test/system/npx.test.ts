import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { descendants, isAlive } from '../fakes/process-tree.ts';
import { describeSandboxed } from './suite.ts';

const BIN = fileURLToPath(new URL('../../cli/bin.mjs', import.meta.url));
const TEST_MS = 90_000;

/** A Node of the machine under which `podgate` starts the one that comes with it; undefined where there is none. */
const OLD_NODE = findOldNode();

function findOldNode(): string | undefined {
  const folders = (process.env.PATH ?? '')
    .split(delimiter)
    .filter((folder) => !folder.includes('node_modules'));
  return folders.map((folder) => join(folder, 'node')).find(isOld);
}

function isOld(node: string): boolean {
  try {
    return (
      Number.parseInt(execFileSync(node, ['-p', 'process.versions.node'], { encoding: 'utf8' }), 10) < 24
    );
  } catch {
    return false;
  }
}

/** What was started, shells and all, once its `podgate dev` listens. */
async function startDev(command: string, args: string[]) {
  const dir = await mkdtemp(join(tmpdir(), 'podgate-npx-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const env = { PATH: process.env.PATH ?? '', HOME: dir, PORT: '0', PODGATE_CANARY: 'off' };
  const starter = spawn(command, args, { cwd: dir, env, stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  for await (const text of starter.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    said += text;
    if (/listens on http/.test(said)) break;
  }
  starter.stdout.resume();
  const started = descendants(starter.pid as number);
  onTestFinished(() => {
    for (const each of started) if (isAlive(each)) process.kill(each.pid, 'SIGKILL');
  });
  return { starter, started };
}

async function expectEnd({ starter, started }: Awaited<ReturnType<typeof startDev>>, signal: NodeJS.Signals) {
  expect(started.length).toBeGreaterThan(1);
  const ended = once(starter, 'exit');
  starter.kill(signal);
  await ended;
  await expect.poll(() => started.filter(isAlive), { interval: 100, timeout: 60_000 }).toEqual([]);
}

describeSandboxed('npx podgate', () => {
  test('that is sent SIGTERM ends, and all that it started', { timeout: TEST_MS }, async () => {
    // As `npx podgate dev` does it, but for the package’s place.
    await expectEnd(await startDev('npm', ['exec', '-c', `${process.execPath} ${BIN} dev`]), 'SIGTERM');
  });
});

describeSandboxed('podgate under a Node that is too old for it', () => {
  test('that is killed ends, and all that it started', { timeout: TEST_MS }, async ({ skip }) => {
    if (OLD_NODE === undefined) return skip('there is no Node older than 24 in PATH');
    await expectEnd(await startDev(OLD_NODE, [BIN, 'dev']), 'SIGKILL');
  });

  test('ends as its command ends', async ({ skip }) => {
    if (OLD_NODE === undefined) return skip('there is no Node older than 24 in PATH');
    const { status, stdout, stderr } = spawnSync(OLD_NODE, [BIN, 'nothing'], { encoding: 'utf8' });
    expect([status, stdout, stderr]).toEqual([2, '', expect.stringContaining("no command 'nothing'")]);
    expect(spawnSync(OLD_NODE, [BIN, '--version'], { encoding: 'utf8' }).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});
