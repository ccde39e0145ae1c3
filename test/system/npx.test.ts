import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { descendants, isAlive } from '../fakes/process-tree.ts';
import { describeSandboxed } from './suite.ts';

const BIN = fileURLToPath(new URL('../../cli/bin.mjs', import.meta.url));
const TEST_MS = 90_000;

/** What npm started, shells and all, once `podgate dev` listens. */
async function startUnderNpm() {
  const dir = await mkdtemp(join(tmpdir(), 'podgate-npx-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const env = { PATH: process.env.PATH ?? '', HOME: dir, PORT: '0', PODGATE_CANARY: 'off' };
  // As `npx podgate dev` does it, but for the package's place.
  const npm = spawn('npm', ['exec', '-c', `${process.execPath} ${BIN} dev`], {
    cwd: dir,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  for await (const text of npm.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    said += text;
    if (/listens on http/.test(said)) break;
  }
  npm.stdout.resume();
  const started = descendants(npm.pid as number);
  onTestFinished(() => {
    for (const each of started) if (isAlive(each)) process.kill(each.pid, 'SIGKILL');
  });
  return { npm, started };
}

describeSandboxed('npx podgate', () => {
  test('that is sent SIGTERM ends, and all that it started', { timeout: TEST_MS }, async () => {
    const { npm, started } = await startUnderNpm();
    // npm’s shell and the command at least.
    expect(started.length).toBeGreaterThan(1);
    const ended = once(npm, 'exit');
    npm.kill('SIGTERM');
    await ended;
    await expect.poll(() => started.filter(isAlive), { interval: 100, timeout: 60_000 }).toEqual([]);
  });
});
