import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { removeContainer } from '../../agent/backends/docker/containers.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { codeOf } from '../fakes/code-of.ts';
import { type DockerAgent, startDockerAgent } from '../fakes/docker-agent.ts';
import { ENGINE_IMAGE, openEngine } from '../fakes/docker-engine.ts';
import { openEngineDoor } from '../fakes/engine-door.ts';
import { type Stack, startStack } from '../fakes/stack.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

/** A canary has containers of its own. */
const UNTRIED = { PODGATE_CANARY: 'off' };
const client = openEngine();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ agents: [] });
});
afterAll(async () => {
  await stack?.[Symbol.asyncDispose]();
  client.close();
});

/** An agent with one warm container. */
async function start(
  cluster: string,
  template: Partial<TemplateInput> = {},
  variables: Record<string, string> = {},
): Promise<DockerAgent> {
  const pool = { min: 1, max: 1 };
  const templates = [{ name: 'default', image: ENGINE_IMAGE, pool, ...template }];
  const agent = await startDockerAgent({
    stack,
    client,
    cluster,
    templates,
    variables: { ...UNTRIED, ...variables },
  });
  await expect.poll(async () => (await agent.containers()).length, { timeout: 60_000 }).toBe(1);
  await stack.warm([cluster]);
  return agent;
}

const run = (cluster: string) =>
  stack.run('print(6 * 7)', { cluster, queue_timeout_ms: 60_000, timeout_ms: 30_000 });

/** `docker rm -f` of whatever is there. */
async function removeAll(agent: DockerAgent): Promise<void> {
  for (const { Id } of await agent.containers()) await removeContainer(client, Id);
}

/** `docker restart` of whatever is there. */
async function restartAll(agent: DockerAgent): Promise<void> {
  for (const { Id } of await agent.containers())
    await client.call({ method: 'POST', path: `/containers/${Id}/restart`, query: { t: '0' } });
}

async function endsWithNothing(agent: DockerAgent): Promise<void> {
  await agent.end();
  expect(await agent.containers()).toEqual([]);
}

describe('a container that somebody removes', () => {
  test('while it waits is replaced, and its next caller notices nothing', async () => {
    const agent = await start('removed-warm');
    expect((await run('removed-warm')).stdout).toBe('42\n');
    await removeAll(agent);
    expect((await run('removed-warm')).stdout).toBe('42\n');
    await endsWithNothing(agent);
  });

  test('while a program runs in it is sandbox_lost, started yes', async () => {
    const agent = await start('removed-running');
    const held = await stack.hold({ cluster: 'removed-running', queue_timeout_ms: 60_000 });
    await removeAll(agent);
    expect(await held.last).toMatchObject({ event: 'error', data: { code: 'sandbox_lost', started: 'yes' } });
    expect((await run('removed-running')).stdout).toBe('42\n');
    await endsWithNothing(agent);
  });

  test('while it is reset has answered, and is replaced', async () => {
    await using door = await openEngineDoor();
    const agent = await start('removed-resetting', { reuse: 'reset' }, { DOCKER_HOST: door.host });
    const resetting = door.hold('asked', ({ method, path }) => method === 'FRAME' && path === 'RESET');
    expect((await run('removed-resetting')).stdout).toBe('42\n');
    const held = await resetting;
    await removeAll(agent);
    held.release();
    expect((await run('removed-resetting')).stdout).toBe('42\n');
    await endsWithNothing(agent);
  });
});

describe('a container that somebody starts again', () => {
  test('while a program runs in it is sandbox_lost, started yes', async () => {
    const agent = await start('restarted-running');
    const held = await stack.hold({ cluster: 'restarted-running', queue_timeout_ms: 60_000 });
    await restartAll(agent);
    expect(await held.last).toMatchObject({ event: 'error', data: { code: 'sandbox_lost', started: 'yes' } });
    expect((await run('restarted-running')).stdout).toBe('42\n');
    await endsWithNothing(agent);
  });

  test('is no session’s any more: what the session had is gone', async () => {
    const agent = await start('restarted-session');
    const session = await stack.podgate.sessions.create({ cluster: 'restarted-session' });
    await restartAll(agent);
    const next = () => codeOf(session.execute('1'));
    await expect.poll(next, { timeout: 60_000 }).toBe('404 not_found');
    await endsWithNothing(agent);
  });
});

test('an image that somebody removes is image_error once nothing waits, and used when it is back', async () => {
  const tag = { repo: 'podgate-removed', tag: 'test' };
  const give = () =>
    client.call({ method: 'POST', path: `/images/${encodeURIComponent(ENGINE_IMAGE)}/tag`, query: tag });
  const take = () => client.call({ method: 'DELETE', path: '/images/podgate-removed:test' });
  await give();
  onTestFinished(() => take().then(undefined, () => {}));
  const agent = await start('imageless-later', { image: 'podgate-removed:test' });
  await take();
  expect((await run('imageless-later')).stdout).toBe('42\n');
  const refused = async () => {
    const response = await stack.post('/v1/execute', { code: '1', cluster: 'imageless-later' });
    return [response.status, ((await response.json()) as { code?: string }).code];
  };
  await expect.poll(refused, { timeout: 60_000 }).toEqual([503, 'image_error']);
  await give();
  const next = () => run('imageless-later').then(({ stdout }) => stdout, String);
  await expect.poll(next, { timeout: 120_000 }).toBe('42\n');
  await endsWithNothing(agent);
});
