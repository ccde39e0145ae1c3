import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { initKeyFolder, KEY_FILES } from '../../cli/key-folder.ts';
import { freePort } from '../fakes/free-port.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

test('a gateway whose log has no room left serves on, and ends when it is told to', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'podgate-full-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  await initKeyFolder(dir);
  const port = await freePort();
  // Every write to it fails with ENOSPC.
  const full = await open('/dev/full', 'w');
  const child = spawn(process.execPath, [MAIN, 'gateway'], {
    stdio: ['ignore', full.fd, full.fd],
    env: {
      PATH: process.env.PATH ?? '',
      PODGATE_ISSUERS: join(dir, KEY_FILES.issuers),
      PODGATE_DENY_LIST: join(dir, KEY_FILES.deny),
      PODGATE_ID_KEYS: join(dir, KEY_FILES.ids),
      FILE_STORAGE_DIR: join(dir, 'files'),
      PORT: String(port),
    },
  });
  const ended = once(child, 'exit');
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
    await full.close();
  });
  const health = () =>
    fetch(`http://127.0.0.1:${port}/health`).then(
      ({ status }) => status,
      () => 0,
    );
  await expect.poll(health, { interval: 20, timeout: 25_000 }).toBe(200);
  // Refusals are logged, each of them in vain.
  for (let n = 0; n < 5; n += 1) {
    const { status } = await fetch(`http://127.0.0.1:${port}/v1/clusters`, {
      headers: { authorization: 'Bearer no.key.atall' },
    });
    expect(status).toBe(401);
  }
  expect(await health()).toBe(200);
  child.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
});
