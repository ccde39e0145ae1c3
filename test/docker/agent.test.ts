import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { listContainers } from '../../agent/backends/docker/containers.ts';
import { startDockerAgent } from '../fakes/docker-agent.ts';
import { ENGINE_HOST, ENGINE_IMAGE, ENGINE_VARIABLES, openEngine } from '../fakes/docker-engine.ts';
import { podgate, startPodgate } from '../fakes/podgate-command.ts';
import { type Stack, startStack } from '../fakes/stack.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const client = openEngine();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ agents: [] });
});
afterAll(async () => {
  await stack?.[Symbol.asyncDispose]();
  client.close();
});

const start = (cluster: string, variables: Record<string, string> = {}) =>
  startDockerAgent({ stack, client, cluster, variables });

describe('an agent with the Docker backend', () => {
  test('runs code in every language of the image, and leaves no container', async () => {
    const agent = await start('languages');
    await stack.warm(['languages']);
    const run = (language: 'python' | 'bash' | 'node', code: string) =>
      stack.run(code, { language, cluster: 'languages', timeout_ms: 30_000, queue_timeout_ms: 30_000 });
    expect((await run('python', 'print(6 * 7)')).stdout).toBe('42\n');
    expect((await run('bash', 'echo $((6 * 7))')).stdout).toBe('42\n');
    expect((await run('node', 'console.log(6 * 7)')).stdout).toBe('42\n');
    await agent.end();
    expect(await agent.containers()).toEqual([]);
  });

  test('finds with its canary that every promise holds, the network’s own refusal among them', async () => {
    // An address that is kept for documentation: nobody's.
    const agent = await start('canary', { PODGATE_CANARY_TARGETS: 'metadata=192.0.2.1:80' });
    await stack.warm(['canary']);
    const found = async () => {
      const { clusters } = await stack.podgate.clusters.list();
      return clusters.find(({ name }) => name === 'canary')?.templates[0]?.isolation;
    };
    // What it says of the sandbox comes first; the network is tried without the runner's filter, in another one.
    await expect
      .poll(async () => (await found())?.findings.map(({ name }) => name), { timeout: 60_000 })
      .toEqual(
        expect.arrayContaining([
          'network.sockets',
          'privilege.capabilities',
          'sandbox.shared',
          'policy.metadata',
        ]),
      );
    const findings = (await found())?.findings ?? [];
    expect(findings.filter(({ state }) => state !== 'holds')).toEqual([]);
    await agent.end();
    expect(await agent.containers()).toEqual([]);
  });

  test('that is killed leaves nothing to the one that comes next', async () => {
    const before = await start('killed');
    await stack.warm(['killed']);
    const held = await stack.hold({ cluster: 'killed', timeout_ms: 10_000 });
    const old = (await before.containers()).map(({ Id }) => Id);
    before.child.kill('SIGKILL');
    expect(await held.last).toMatchObject({ event: 'error', data: { code: 'agent_lost', started: 'yes' } });
    const after = await start('killed');
    await stack.warm(['killed']);
    // Slots are promised before the engine is reached; nothing is made before what the dead one left is gone.
    const ran = await stack.run('print(1)', { cluster: 'killed', queue_timeout_ms: 30_000 });
    expect(ran.stdout).toBe('1\n');
    const left = (await after.containers()).map(({ Id }) => Id);
    expect(left.filter((id) => old.includes(id))).toEqual([]);
    await after.end();
    expect(await after.containers()).toEqual([]);
  });

  test('says image_error, and fetches nothing, while a caller waits', async () => {
    const agent = await start('imageless', { DOCKER_IMAGE: 'registry.invalid/none:1' });
    const template = async () =>
      (await stack.podgate.clusters.list()).clusters.find(({ name }) => name === 'imageless')?.templates[0];
    await expect.poll(async () => (await template())?.trouble?.code, { timeout: 20_000 }).toBe('image_error');
    const response = await stack.post('/v1/execute', { code: '1', cluster: 'imageless' });
    expect([response.status, await response.json()]).toEqual([
      503,
      expect.objectContaining({
        code: 'image_error',
        detail: expect.stringContaining('podgate images pull'),
      }),
    ]);
    await agent.end();
    expect(await agent.containers()).toEqual([]);
  });
});

describe('podgate dev with the Docker backend', () => {
  test('prints a curl line that works as printed, and leaves no container', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'podgate-docker-dev-'));
    onTestFinished(() => rm(dir, { recursive: true }));
    const installation = `dev-test-${process.pid}`;
    const dev = startPodgate(['dev'], {
      env: {
        ...ENGINE_VARIABLES,
        PODGATE_INSTALLATION: installation,
        PODGATE_CANARY: 'off',
        PODGATE_DIR: dir,
        PORT: '0',
        POOL_SIZE: '1',
      },
    });
    const [, line = ''] = await dev.shows(/^ {2}(curl .*)$/m);
    const { stdout } = await promisify(execFile)('sh', ['-c', line]);
    expect(JSON.parse(stdout)).toMatchObject({ stdout: '42\n', exit_code: 0 });
    dev.kill('SIGINT');
    expect((await dev.ended).status).toBe(0);
    expect(await listContainers(client, { installation })).toEqual([]);
  });
});

describe('podgate images', () => {
  const env = { DOCKER_HOST: ENGINE_HOST ?? '', DOCKER_IMAGE: ENGINE_IMAGE };

  test('lists what is there and what is missing', async () => {
    expect(await podgate(['images', 'list'], { env })).toMatchObject({
      status: 0,
      stdout: `${ENGINE_IMAGE}  present\n`,
    });
    const none = { ...env, DOCKER_IMAGE: 'registry.invalid/none:1' };
    expect(await podgate(['images', 'list'], { env: none })).toMatchObject({
      status: 1,
      stdout: 'registry.invalid/none:1  missing\n',
    });
  });

  test('fetches nothing that is there', async () => {
    expect(await podgate(['images', 'pull'], { env })).toMatchObject({ status: 0, stderr: '' });
  });

  test.for([
    [['images', 'push'], env, /use pull or list/],
    [['images', 'pull'], { DOCKER_HOST: ENGINE_HOST ?? '' }, /set DOCKER_IMAGE/],
    [['images', 'pull'], { ...env, DOCKER_HOST: 'unix:///nowhere.sock' }, /no such socket/],
  ] as [string[], Record<string, string>, RegExp][])(
    '%j says what is wrong',
    async ([args, given, sentence]) => {
      const ended = await podgate(args, { env: given });
      expect(ended.status).not.toBe(0);
      expect(ended.stderr).toMatch(sentence);
    },
  );
});
