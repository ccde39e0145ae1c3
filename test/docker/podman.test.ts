import { afterAll, beforeAll, describe, expect, type TestContext, test, vi } from 'vitest';
import type { Sandbox } from '../../agent/backends/backend.ts';
import type { DockerBackend } from '../../agent/backends/docker/docker-backend.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { backendContract } from '../contract/backend.ts';
import { createTestEngine, ENGINE_IMAGE, type TestEngine } from '../fakes/docker-engine.ts';
import { type OwnEngine, podmanTrouble, startOwnEngine } from '../fakes/own-engine.ts';
import { runOn } from '../fakes/runner-run.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 300_000 });
const soon = () => AbortSignal.timeout(60_000);
const TIMES = { keepMs: 100, unwantedMs: 300, silentMs: 500 };
const missing = await podmanTrouble();

let own: OwnEngine;
let engine: TestEngine;
beforeAll(async () => {
  if (missing !== undefined) return;
  own = await startOwnEngine({ isPodman: true });
  engine = createTestEngine(own.host);
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  await own?.[Symbol.asyncDispose]();
});

backendContract('the Docker backend on Podman', () => createTestEngine(own.host).backend(), {
  trouble: missing,
  template: { image: ENGINE_IMAGE },
  onThisMachine: true,
  noDevices: true,
  imageRoot: true,
  endlessFiles: true,
});

async function attach(backend: DockerBackend, sandbox: Sandbox, epoch = 1) {
  const client = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch });
  await client.ready;
  return client;
}

describe('Podman', () => {
  const kept = (title: string, body: (context: TestContext) => Promise<void>) =>
    test(title, async (context) => {
      context.skip(missing !== undefined, missing);
      await body(context);
    });

  kept('is known, and what it does not bound is said once', async () => {
    const said: unknown[] = [];
    const log = (event: string, fields?: object) => void said.push({ event, ...fields });
    await engine.backend({ log });
    expect(said).toEqual([
      expect.objectContaining({
        event: 'engine_connected',
        product: 'podman',
        limitsNotHeld: ['the number of files but by memory'],
      }),
    ]);
  });

  kept('is refused what it would pass over in silence: a runtime for one container', async () => {
    const backend = await engine.backend();
    const template = await engine.template({ docker: { runtime: 'runsc' } });
    await expect(backend.create(template, soon())).rejects.toMatchObject({ code: 'isolation_failed' });
    expect(await backend.list()).toEqual([]);
  });

  kept('lets files without end take no more than the memory of their sandbox', async () => {
    const backend = await engine.backend();
    const resources = { memory_mb: 32, workspace_mb: 8, tmp_mb: 8 };
    const sandbox = await backend.create(await engine.template({ resources, reuse: 'reset' }), soon());
    const client = await attach(backend, sandbox);
    const code = 'for n in range(1_000_000): open(f"n{n}", "w").close()';
    const ran = await runOn(client, 1, code, { collect: false, timeoutMs: 30_000 });
    expect(ran.exit.result?.outcome).toBe('memory_limit');
    expect(await client.reset(soon())).toEqual({ ok: true, leftovers: [] });
    expect((await runOn(client, 2, 'print(1)', {})).stdout).toBe('1\n');
    await backend.destroy(sandbox);
  });

  kept('keeps no container of an instance elsewhere whose streams have ended', async () => {
    const elsewhere = await engine.backend({ mark: 'another-machine/1/2/3' });
    const sandbox = await elsewhere.create(await engine.template(), soon());
    const client = await attach(elsewhere, sandbox);
    const next = await engine.backend(TIMES);
    await new Promise((resolve) => setTimeout(resolve, 3 * TIMES.silentMs));
    expect((await next.list()).map(({ id }) => id)).toContain(sandbox.id);
    client.close();
    await expect.poll(() => next.list(), { timeout: 20_000 }).toEqual([]);
  });

  kept('whose service is killed and started again loses no sandbox, and what runs goes on', async () => {
    const backend = await engine.backend(TIMES);
    const sandbox = await backend.create(await engine.template(), soon());
    const before = await attach(backend, sandbox);
    const running = runOn(before, 1, 'import time; print(1, flush=True); time.sleep(600)', {});
    running.catch(() => {});
    await own.kill();
    expect((await before.closed).code).toBe('sandbox_lost');
    await expect.poll(() => backend.trouble, { timeout: 20_000 }).toMatch(/cannot be reached/);
    await own.start();
    await expect.poll(() => backend.trouble, { timeout: 20_000 }).toBeNull();
    const stream = await backend.connect(sandbox, soon());
    const after = createRunnerClient({ stream, epoch: 2 });
    expect((await after.ready).running).toHaveLength(1);
    await backend.destroy(sandbox);
    expect(await backend.list()).toEqual([]);
  });
});
