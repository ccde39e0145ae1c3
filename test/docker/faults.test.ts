import { execFileSync } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { removeContainer } from '../../agent/backends/docker/containers.ts';
import type { DockerBackend } from '../../agent/backends/docker/docker-backend.ts';
import { ownMark } from '../../agent/backends/docker/process-mark.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { createTestEngine, ENGINE_TEMPLATE, type TestEngine } from '../fakes/docker-engine.ts';
import { type OwnEngine, startOwnEngine } from '../fakes/own-engine.ts';
import { runOn } from '../fakes/runner-run.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });
const soon = () => AbortSignal.timeout(30_000);
const TIMES = { keepMs: 100, unwantedMs: 300, silentMs: 500 };

async function attach(
  backend: DockerBackend,
  sandbox: Awaited<ReturnType<DockerBackend['create']>>,
  epoch = 1,
) {
  const client = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch });
  await client.ready;
  return client;
}

async function containers({ client, installation }: TestEngine): Promise<string[]> {
  const filters = JSON.stringify({ label: [`podgate.dev/installation=${installation}`] });
  const found = await client.call<{ Id: string }[]>({
    method: 'GET',
    path: '/containers/json',
    query: { all: 'true', filters },
  });
  return found.map(({ Id }) => Id);
}

describe('an engine that is up', () => {
  let engine: TestEngine;
  beforeAll(() => {
    engine = createTestEngine();
  });
  afterAll(() => engine[Symbol.asyncDispose]());

  test.for([
    ['an image that is not there', { image: 'registry.invalid/none:1' }, 'image_error'],
    ['a name that leads to another route', { image: '../containers' }, 'image_error'],
    ['an interpreter that is not there', { python: '/nonexistent/python3' }, 'image_error'],
    ['an interpreter that is none', { python: '/bin/true' }, 'image_error'],
    ['a runtime that is not there', { docker: { runtime: 'runsc-none' } }, 'isolation_failed'],
    ['a network', { network: 'cluster' as const }, 'policy_denied'],
  ] as const)('refuses %s, fetches nothing, and keeps no container', async ([, input, code]) => {
    const backend = await engine.backend();
    const startedMs = performance.now();
    const creation = backend.create(await engine.template(input), soon());
    await expect(creation).rejects.toMatchObject({ name: 'Failure', code });
    expect(performance.now() - startedMs).toBeLessThan(20_000);
    await expect.poll(() => containers(engine)).toEqual([]);
  });

  test('runs code without a call to it', async () => {
    // Other backends of its installation would look at it too.
    await using engine = createTestEngine();
    const backend = await engine.backend({ keepMs: 3_600_000 });
    const sandbox = await backend.create(await engine.template(), soon());
    const client = await attach(backend, sandbox);
    const before = backend.calls;
    for (let stream = 1; stream <= 3; stream += 1)
      expect((await runOn(client, stream, 'print(1)', {})).stdout).toBe('1\n');
    expect(backend.calls).toBe(before);
    await backend.destroy(sandbox);
  });

  test('says why a container ended, and nothing while it runs', async () => {
    const backend = await engine.backend();
    const sandbox = await backend.create(await engine.template(), soon());
    const kill = () => engine.client.call({ method: 'POST', path: `/containers/${sandbox.id}/kill` });
    expect(await backend.endOf(sandbox, AbortSignal.timeout(200))).toBeUndefined();
    await kill();
    expect(await backend.endOf(sandbox, soon())).toMatchObject({ why: 'exited' });
    await backend.destroy(sandbox);
    expect(await backend.endOf(sandbox, soon())).toMatchObject({ why: 'deleted' });
  });

  test('says that a container whose runner was killed for memory was', async () => {
    const backend = await engine.backend();
    const sandbox = await backend.create(await engine.template(), soon());
    onTestFinished(() => backend.destroy(sandbox));
    const { State } = await engine.client.call<{ State: { Pid: number } }>({
      method: 'GET',
      path: `/containers/${sandbox.id}/json`,
    });
    // The kernel would take the program first: here the runner is the one to go.
    await writeFile(`/proc/${State.Pid}/oom_score_adj`, '1000');
    const hog = 'hoard = []\nwhile True: hoard.append(bytearray(b"x") * (1 << 20))';
    const { Id } = await engine.client.call<{ Id: string }>({
      method: 'POST',
      path: `/containers/${sandbox.id}/exec`,
      body: { Cmd: ['python3', '-c', hog] },
    });
    await engine.client.call({ method: 'POST', path: `/exec/${Id}/start`, body: { Detach: true } });
    await expect
      .poll(async () => (await backend.endOf(sandbox, soon()))?.why, { timeout: 20_000 })
      .toBe('memory');
    await backend.destroy(sandbox);
  });

  test('has no container left of an instance whose process is gone, when the next one is there', async () => {
    // Other backends of its installation would look at it too.
    await using engine = createTestEngine();
    const [boot, namespace] = (ownMark() as string).split('/');
    const dead = await engine.backend({ mark: `${boot}/${namespace}/1/1` });
    const alive = await engine.backend();
    const template = await engine.template();
    const [gone, kept] = [await dead.create(template, soon()), await alive.create(template, soon())];
    const next = await engine.backend();
    const ids = (await next.list()).map(({ id }) => id);
    expect(ids).toContain(kept.id);
    expect(ids).not.toContain(gone.id);
    await alive.destroy(kept);
  });

  test('keeps the containers of an instance elsewhere that holds a stream, and none of one that holds none', async () => {
    // Other backends of its installation would look at it too.
    await using engine = createTestEngine();
    const elsewhere = await engine.backend({ mark: 'another-machine/1/2/3' });
    const sandbox = await elsewhere.create(await engine.template(), soon());
    const client = await attach(elsewhere, sandbox);
    const next = await engine.backend(TIMES);
    await new Promise((resolve) => setTimeout(resolve, 3 * TIMES.silentMs));
    expect((await next.list()).map(({ id }) => id)).toContain(sandbox.id);
    client.close();
    await expect.poll(() => next.list(), { timeout: 20_000 }).toEqual([]);
  });

  test('that is left while a sandbox is being made keeps nothing of it', async () => {
    // However far the creation has come.
    for (const waitMs of [0, 20, 60, 150, 300]) {
      const own = await engine.backend({ installation: `leaving-${waitMs}` });
      const creation = own.create(await engine.template(), soon()).catch((cause: unknown) => cause);
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      await own.close();
      expect(await containers({ ...engine, installation: `leaving-${waitMs}` })).toEqual([]);
      await creation;
    }
  });

  test('keeps a container that somebody renames for whoever has it, and removes it after that', async () => {
    // Other backends of its installation would look at it too.
    await using engine = createTestEngine();
    const backend = await engine.backend(TIMES);
    const template = await engine.template();
    const rename = async (id: string, name: string) => {
      await engine.client.call({ method: 'POST', path: `/containers/${id}/rename`, query: { name } });
    };
    const [used, left] = [await backend.create(template, soon()), await backend.create(template, soon())];
    const client = await attach(backend, used);
    for (const { id } of [used, left]) await rename(id, `renamed-${id}`);
    await new Promise((resolve) => setTimeout(resolve, 3 * TIMES.unwantedMs));
    expect((await runOn(client, 1, 'print(1)', {})).stdout).toBe('1\n');
    client.close();
    expect((await runOn(await attach(backend, used, 2), 2, 'print(2)', {})).stdout).toBe('2\n');
    await backend.destroy(used);
    expect(await containers(engine)).toHaveLength(1);
    await backend.close();
    expect(await containers(engine)).toEqual([]);
  });

  test('has whoever runs an image that was made of a sandbox keep the container', async () => {
    // Other backends of its installation would look at it too.
    await using engine = createTestEngine();
    const backend = await engine.backend(TIMES);
    const sandbox = await backend.create(await engine.template(), soon());
    const query = { container: sandbox.id, repo: 'podgate-committed', tag: 'test' };
    await engine.client.call({ method: 'POST', path: '/commit', query, body: {} });
    const { Id } = await engine.client.call<{ Id: string }>({
      method: 'POST',
      path: '/containers/create',
      body: { Image: 'podgate-committed:test' },
    });
    await using made = new AsyncDisposableStack();
    made.defer(() =>
      engine.client.call({ method: 'DELETE', path: '/images/podgate-committed:test' }).then(() => {}),
    );
    made.defer(() => removeContainer(engine.client, Id));
    await new Promise((resolve) => setTimeout(resolve, 3 * TIMES.unwantedMs));
    expect((await backend.list()).map(({ id }) => id)).toEqual([sandbox.id]);
    await backend.close();
    // Nor is it what an instance left that is gone.
    await engine.backend(TIMES);
    await new Promise((resolve) => setTimeout(resolve, 3 * TIMES.silentMs));
    expect(await containers(engine)).toEqual([Id]);
  });

  test('covers the volumes that an image declares', async () => {
    const { Id } = await engine.client.call<{ Id: string }>({
      method: 'POST',
      path: '/containers/create',
      body: { Image: (await engine.template()).image, Cmd: ['true'] },
    });
    const changes = 'VOLUME ["/srv/", "/tmp/"]';
    const query = { container: Id, repo: 'podgate-volumes', tag: 'test', changes };
    await engine.client.call({ method: 'POST', path: '/commit', query, body: {} });
    await engine.client.call({ method: 'DELETE', path: `/containers/${Id}`, query: { v: 'true' } });
    onTestFinished(() => engine.client.call({ method: 'DELETE', path: '/images/podgate-volumes:test' }));
    const backend = await engine.backend();
    const sandbox = await backend.create(await engine.template({ image: 'podgate-volumes:test' }), soon());
    const client = await attach(backend, sandbox);
    const code = 'import os; print(*(os.access(at, os.W_OK) for at in ("/srv", "/tmp")))';
    expect((await runOn(client, 1, code, {})).stdout).toBe('False True\n');
    await backend.destroy(sandbox);
  });
});

describe('an engine that fails', () => {
  let own: OwnEngine;
  let engine: TestEngine;
  beforeAll(async () => {
    own = await startOwnEngine({ diskMb: 1_500 });
    engine = createTestEngine(own.host);
  });
  afterAll(async () => {
    await engine?.[Symbol.asyncDispose]();
    await own?.[Symbol.asyncDispose]();
  });

  test('with a full disk has no room, and serves again when it has', async () => {
    const backend = await engine.backend();
    const full = join(own.data, 'full');
    execFileSync('sh', ['-c', 'head -c 3G /dev/zero > "$1" 2>/dev/null || true', 'sh', full]);
    const template = await engine.template();
    await expect(backend.create(template, soon())).rejects.toMatchObject({ code: 'unschedulable' });
    await rm(full);
    const sandbox = await backend.create(template, soon());
    await backend.destroy(sandbox);
  });

  test('whose socket is somebody else’s for a while is backend_unavailable, and used again when it is back', async () => {
    const backend = await engine.backend(TIMES);
    const template = await engine.template();
    await own.stop();
    for (const says of ['HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot JSON!', 'no HTTP at all\n', '']) {
      await rm(join(own.dir, 'docker.sock'), { force: true });
      const impostor = createServer((socket) =>
        socket
          .on('error', () => {})
          .resume()
          .end(says),
      );
      impostor.listen(join(own.dir, 'docker.sock'));
      await expect(backend.create(template, soon())).rejects.toMatchObject({ code: 'backend_unavailable' });
      await new Promise((resolve) => impostor.close(resolve));
    }
    await own.start();
    await expect.poll(() => backend.trouble, { timeout: 10_000 }).toBeNull();
    await backend.destroy(await backend.create(template, soon()));
    expect(await containers(engine)).toEqual([]);
  });

  test.for(['stop', 'kill'] as const)(
    'by %s is backend_unavailable, and used again when it is back',
    async (how) => {
      const backend = await engine.backend(TIMES);
      const template = await engine.template();
      const sandbox = await backend.create(template, soon());
      const client = await attach(backend, sandbox);
      await own[how]();
      expect((await client.closed).code).toBe('sandbox_lost');
      await expect(backend.create(template, soon())).rejects.toMatchObject({ code: 'backend_unavailable' });
      await expect.poll(() => backend.trouble, { timeout: 10_000 }).toMatch(/cannot be reached/);
      await own.start();
      await expect.poll(() => backend.trouble, { timeout: 10_000 }).toBeNull();
      expect(await backend.endOf(sandbox, soon())).toMatchObject({ failure: { code: 'sandbox_lost' } });
      const next = await backend.create(template, soon());
      expect((await runOn(await attach(backend, next), 1, 'print(1)', {})).stdout).toBe('1\n');
      await Promise.all([backend.destroy(sandbox), backend.destroy(next)]);
      expect(await containers(engine)).toEqual([]);
    },
  );
});

test('an engine whose containers have other limits by default gives sandboxes those of their template', async () => {
  const limits = [
    'nofile=64:64',
    'nproc=20:20',
    'fsize=1048576:1048576',
    'cpu=1:1',
    'stack=268435456:268435456',
  ];
  const flags = limits.flatMap((limit) => ['--default-ulimit', limit]);
  await using own = await startOwnEngine({ flags });
  await using engine = createTestEngine(own.host);
  const backend = await engine.backend();
  const { image, resources } = ENGINE_TEMPLATE;
  const sandbox = await backend.create(
    await engine.template({ image, resources: { ...resources, open_files: 200, processes: 60 } }),
    soon(),
  );
  const code = `
import os, subprocess, time
with open('large', 'wb') as file:
    file.write(bytes(2 << 20))
while time.process_time() < 1.5: pass
# Its thread's stack is as large as the limit says.
subprocess.run(['python3', '-c', 'import threading; threading.Thread(target=print, args=["thread"]).start()'], check=True)
files = [open(os.devnull) for _ in range(150)]
for _ in range(40):
    if os.fork() == 0:
        time.sleep(60)
print('all')
`;
  expect((await runOn(await attach(backend, sandbox), 1, code, {})).stdout).toBe('thread\nall\n');
  await backend.destroy(sandbox);
});

test('an engine whose own runtime is not there is not told to lack the one of a template that names none', async () => {
  await using own = await startOwnEngine({ flags: ['--add-runtime=none=/none', '--default-runtime=none'] });
  await using engine = createTestEngine(own.host);
  const backend = await engine.backend();
  await expect(backend.create(await engine.template(), soon())).rejects.toMatchObject({
    code: 'isolation_failed',
    detail: expect.stringContaining('or its own default'),
  });
  await expect.poll(() => containers(engine)).toEqual([]);
});

test('an engine that compresses logs by default makes containers all the same', async () => {
  const flags = ['max-size=10m', 'max-file=3', 'compress=true'].flatMap((option) => ['--log-opt', option]);
  await using own = await startOwnEngine({ flags });
  await using engine = createTestEngine(own.host);
  const backend = await engine.backend();
  const sandbox = await backend.create(await engine.template(), soon());
  expect((await runOn(await attach(backend, sandbox), 1, 'print(1)', {})).stdout).toBe('1\n');
  await backend.destroy(sandbox);
});
