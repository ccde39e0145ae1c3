import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { Podgate } from '../../client/podgate.ts';
import type { ExecuteRequest, ResultEvent } from '../../client/types.ts';
import { NO_COMPILE_CACHE } from '../fakes/compile-cache.ts';
import { freePort } from '../fakes/free-port.ts';
import { holdRun } from '../fakes/held-run.ts';
import { startHttpServer } from '../fakes/http-server.ts';
import { podgate, startPodgate } from '../fakes/podgate-command.ts';
import { descendants, isAlive } from '../fakes/process-tree.ts';
import { says, strangeEngine } from '../fakes/strange-engine.ts';
import { describeSandboxed, describeStack } from './suite.ts';

const newFolder = async () => {
  const dir = await mkdtemp(join(tmpdir(), 'podgate-processes-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
};

/** A program that begins, ends half a second later and leaves a file; `meanwhile` happens in between. */
async function runAcross(
  client: Podgate,
  request: Partial<ExecuteRequest>,
  meanwhile: () => unknown,
): Promise<ResultEvent & { output: string }> {
  const code =
    'import time; print("begun"); time.sleep(0.5); open("made", "w").write("x" * 100_000); print("ended")';
  let output = '';
  for await (const event of client.stream({ code, ...request })) {
    if (event.type === 'result') return { ...event, output };
    if (output === '') await meanwhile();
    if (event.type === 'output') output += event.data;
  }
  throw new Error('no result');
}

describeStack('An agent as a process', { agents: [] }, (stack) => {
  const start = async (cluster: string, env: Record<string, string> = {}) => {
    const agent = startPodgate(['agent'], {
      env: {
        EXECUTOR_BACKEND: 'local',
        PODGATE_GATEWAY_URL: stack().url,
        PODGATE_AGENT_TOKEN: await stack().agentToken(cluster),
        PODGATE_CLUSTER: cluster,
        PODGATE_AGENT_PORT: '0',
        // Its sandboxes would be beside those that are counted here.
        PODGATE_CANARY: 'off',
        ...env,
      },
    });
    await stack().warm([cluster]);
    return agent;
  };

  test('that is told to stop lets what runs end, then goes with status 0 and all its sandboxes', async () => {
    const agent = await start('stopped');
    let sandboxes = descendants(agent.pid);
    const ran = await runAcross(stack().podgate, { cluster: 'stopped' }, () => {
      sandboxes = descendants(agent.pid);
      agent.kill('SIGTERM');
    });
    expect(ran).toMatchObject({ output: 'begun\nended\n', exit_code: 0 });
    expect(await agent.ended).toMatchObject({ status: 0, signal: null, stderr: '' });
    expect(sandboxes.length).toBeGreaterThan(2);
    expect(sandboxes.filter(isAlive)).toEqual([]);
  });

  test('ends at once when it is told twice', async () => {
    const agent = await start('hurried');
    await using held = await stack().hold({ cluster: 'hurried' });
    agent.kill('SIGTERM');
    await agent.shows(/agent_draining/);
    agent.kill('SIGTERM');
    expect((await agent.ended).status).toBe(0);
    expect(await held.last).toMatchObject({ event: 'error', data: { started: 'yes' } });
    expect(held.alive()).toBe(0);
  });

  test('logs one JSON line an event and never a token', async () => {
    const agent = await start('logging');
    await stack().run('print("secret-output")', { cluster: 'logging', env: { A: 'secret-value' } });
    agent.kill('SIGTERM');
    const { stdout } = await agent.ended;
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).event);
    expect(events).toEqual(
      expect.arrayContaining(['agent_started', 'link_joined', 'execution', 'agent_stopped']),
    );
    expect(stdout).not.toMatch(/podgate_agent_|secret-/);
  });
});

describeSandboxed('A gateway as a process', () => {
  test('that is told to stop lets what runs end, refuses what is new, and goes with status 0', async () => {
    const dir = await newFolder();
    await podgate(['keys', 'init', '--dir', dir]);
    const key = (await podgate(['keys', 'create', '--dir', dir, '--sub', 'anna'])).stdout.trim();
    const gateway = startPodgate(['gateway'], {
      env: {
        PODGATE_ISSUERS: join(dir, 'issuers.json'),
        PODGATE_METRICS_PORT: '0',
        FILE_STORAGE_DIR: join(dir, 'files'),
        PORT: '0',
      },
    });
    const [, url = ''] = await gateway.shows(/"url":"([^"]+)"/);
    const agent = startPodgate(['agent'], {
      env: {
        EXECUTOR_BACKEND: 'local',
        PODGATE_GATEWAY_URL: url,
        PODGATE_AGENT_TOKEN: (
          await podgate(['agents', 'token', '--dir', dir, '--cluster', 'lab'])
        ).stdout.trim(),
        PODGATE_CLUSTER: 'lab',
        PODGATE_AGENT_PORT: '0',
        // Its sandboxes would be beside those that are counted here.
        PODGATE_CANARY: 'off',
      },
    });
    await agent.shows(/"event":"link_joined"/);
    const client = new Podgate({ baseUrl: url, key });
    await expect
      .poll(async () => (await fetch(`${url}/ready`)).status, { interval: 5, timeout: 10_000 })
      .toBe(200);
    const ran = await runAcross(client, {}, async () => {
      gateway.kill('SIGTERM');
      await gateway.shows(/gateway_draining/);
      const late = await fetch(`${url}/v1/execute`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: '{"code":"1"}',
      });
      expect([late.status, late.headers.get('connection')]).toEqual([503, 'close']);
      expect(late.headers.get('retry-after')).toMatch(/^\d+$/);
    });
    expect(ran).toMatchObject({ output: 'begun\nended\n', exit_code: 0 });
    expect(await gateway.ended).toMatchObject({ status: 0, signal: null, stderr: '' });
    agent.kill('SIGTERM');
    expect((await agent.ended).status).toBe(0);
  });
});

/** Has something go wrong in a process of ours whenever it is sent SIGUSR2, where nobody waits for it. */
const STRAY = "process.on('SIGUSR2', () => void Promise.reject(new Error('stray')));";

describeStack('A fault where nobody waits for it', { agents: [] }, (stack) => {
  test.for([
    ['a gateway', 'gateway', /"event":"gateway_started"/],
    ['an agent', 'agent', /"event":"link_joined"/],
  ] as const)('is told by %s in its log, and ends nothing else', async ([, command, begun]) => {
    const dir = await newFolder();
    await podgate(['keys', 'init', '--dir', dir]);
    const running = startPodgate([command], {
      env: {
        NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(STRAY)}`,
        PODGATE_ISSUERS: join(dir, 'issuers.json'),
        PODGATE_METRICS_PORT: '0',
        FILE_STORAGE_DIR: join(dir, 'files'),
        PORT: '0',
        EXECUTOR_BACKEND: 'local',
        PODGATE_GATEWAY_URL: stack().url,
        PODGATE_AGENT_TOKEN: await stack().agentToken('strays'),
        PODGATE_CLUSTER: 'strays',
        PODGATE_AGENT_PORT: '0',
        PODGATE_CANARY: 'off',
      },
    });
    await running.shows(begun);
    running.kill('SIGUSR2');
    await running.shows(/"event":"fault".*stray/);
    running.kill('SIGTERM');
    expect(await running.ended).toMatchObject({ status: 0, signal: null, stderr: '' });
  });
});

test('a gateway that is told to stop while its first documents do not come ends at once, with status 0', async () => {
  const dir = await newFolder();
  await podgate(['keys', 'init', '--dir', dir]);
  const asked = Promise.withResolvers<void>();
  const silent = await startHttpServer(() => asked.resolve());
  const gateway = startPodgate(['gateway'], {
    env: {
      PODGATE_ISSUERS: join(dir, 'issuers.json'),
      PODGATE_DENY_LIST: `${silent.url}/deny`,
      PODGATE_METRICS_PORT: '0',
      FILE_STORAGE_DIR: join(dir, 'files'),
      PORT: '0',
    },
  });
  await asked.promise;
  gateway.kill('SIGTERM');
  const ended = await gateway.ended;
  expect(ended).toMatchObject({ status: 0, signal: null, stderr: '' });
  // It would have begun without the document, once that was given up.
  expect(ended.stdout).not.toContain('gateway_started');
  expect(ended.stdout).toContain('gateway_stopped');
});

describeSandboxed('podgate dev', () => {
  const start = async (env: Record<string, string> = {}) => {
    // A name that a shell would take apart.
    const { PODGATE_DIR: dir = join(await newFolder(), "my key's $folder") } = env;
    const dev = startPodgate(['dev'], { env: { PORT: '0', ...env, PODGATE_DIR: dir } });
    const [, url = ''] = await dev.shows(/listens on (http:\S+)/);
    const key = (await readFile(join(dir, 'dev-key'), 'utf8')).trim();
    return { dev, dir, url, key };
  };

  test('prints a curl line that works as printed, within two seconds', async () => {
    const helped = performance.now();
    await podgate(['gateway', '--help'], { env: NO_COMPILE_CACHE });
    const began = performance.now();
    const { dev } = await start(NO_COMPILE_CACHE);
    const [, line = ''] = await dev.shows(/^ {2}(curl .*)$/m);
    const { stdout } = await promisify(execFile)('sh', ['-c', line]);
    expect(JSON.parse(stdout)).toMatchObject({ stdout: '42\n', exit_code: 0, cluster: 'local' });
    // A machine with too much to do takes as much longer for anything.
    expect(performance.now() - began).toBeLessThan(Math.max(4_000, 5 * (began - helped)));
  });

  const stop = async (dev: Awaited<ReturnType<typeof start>>['dev']) => {
    dev.kill('SIGTERM');
    return dev.ended;
  };

  test('makes a new key in place of one that was revoked, and says so', async () => {
    const { dev, dir, key } = await start();
    await stop(dev);
    await podgate(['keys', 'revoke', key, '--dir', dir]);
    const again = await start({ PODGATE_DIR: dir });
    expect(again.key).not.toBe(key);
    const answer = await fetch(`${again.url}/v1/clusters`, {
      headers: { authorization: `Bearer ${again.key}` },
    });
    expect(answer.status).toBe(200);
    expect((await stop(again.dev)).stderr).toMatch(
      /The key in \S+.*dev-key was revoked: a new one is in its place/,
    );
  });

  test('says that its subject is revoked, of which no new key would be taken', async () => {
    const { dev, dir, key } = await start();
    await stop(dev);
    await podgate(['keys', 'revoke', '--sub', 'dev', '--dir', dir]);
    const again = await start({ PODGATE_DIR: dir });
    expect(again.key).toBe(key);
    expect((await stop(again.dev)).stderr).toMatch(/All keys of the subject 'dev' are revoked.*deny\.json/);
  });

  test('says why it cannot run code in the words of what makes its sandboxes', async () => {
    const engine = `unix://${await strangeEngine(says({ OSType: 'linux', SecurityOptions: ['name=seccomp'] }))}`;
    const { dev } = await start({ EXECUTOR_BACKEND: 'docker', DOCKER_HOST: engine, DOCKER_IMAGE: 'any' });
    const [, why] = await dev.shows(/It cannot run code yet: (.*)/);
    expect(why).toMatch(
      /^The cluster cannot keep .* The engine at unix:\/\S+: The engine does not bound memory, /,
    );
  });

  const withTemplate = async (member: string) => {
    const file = join(await newFolder(), 'templates.yaml');
    await writeFile(file, `templates: [{ name: default, ${member} }]`);
    return { PODGATE_TEMPLATES: file };
  };

  test('says why its template cannot run code, and is not ready', async () => {
    const { dev, url } = await start(await withTemplate('network: cluster'));
    const [, why] = await dev.shows(/It cannot run code yet: (.*)/);
    expect(why).toContain('Local sandboxes have no network: ');
    expect((await fetch(`${url}/ready`)).status).toBe(503);
  });

  test('says why its template cannot run code also where that shows a moment later, safe for a terminal', async () => {
    const folder = await newFolder();
    await chmod(folder, 0o755);
    const [python, pipe] = [join(folder, 'python'), join(folder, 'pipe')];
    await promisify(execFile)('mkfifo', ['-m', '666', pipe]);
    await writeFile(python, `#!/bin/sh\nread word < ${pipe}\nprintf 'no \\033[2JPython' >&2\nexit 1\n`, {
      mode: 0o755,
    });
    const url = `http://127.0.0.1:${await freePort()}`;
    const starting = start({ ...(await withTemplate(`python: ${python}`)), PORT: new URL(url).port });
    const ready = () => fetch(`${url}/ready`).then(({ status }) => status, String);
    await expect.poll(ready, { interval: 5, timeout: 10_000 }).toBe(200);
    await writeFile(pipe, 'end\n');
    const { dev } = await starting;
    const [, why] = await dev.shows(/Try it:|It cannot run code yet: (.*)/);
    expect(why).toContain(`${python} failed (no \\u001b[2JPython)`);
    await expect.poll(ready, { interval: 5 }).toBe(503);
  });

  test('says after a while that its own agent does not join, and why', async () => {
    const env = { PODGATE_DIR: await newFolder(), PORT: '0', PODGATE_ORIGINS: 'https://gateway.example' };
    const dev = startPodgate(['dev'], { env });
    const [, why] = await dev.shows(/still waiting for its own agent to join http:\S+ (.*)/);
    expect(why).toMatch(/No gateway is connected\. The agent's last link: .*4401 \(unauthorized\)/);
    dev.kill('SIGINT');
    expect((await dev.ended).status).toBe(0);
  });

  test('that is killed leaves no process, whatever ran on it', async () => {
    const { dev, url, key } = await start();
    await using held = await holdRun({ url, key });
    const processes = descendants(dev.pid);
    expect(held.alive()).toBe(1);
    dev.kill('SIGKILL');
    await dev.ended;
    await expect(held.last).rejects.toThrow();
    await expect.poll(() => [held.alive(), processes.filter(isAlive)], { interval: 2 }).toEqual([0, []]);
  });

  test('that is interrupted ends with status 0 when what runs has ended, and keeps its keys for the next time', async () => {
    const { dev, dir, url, key } = await start();
    const processes = descendants(dev.pid);
    const ran = await runAcross(new Podgate({ baseUrl: url, key }), {}, () => dev.kill('SIGINT'));
    expect(ran).toMatchObject({ output: 'begun\nended\n', exit_code: 0, files: [{ path: 'made' }] });
    expect(await dev.ended).toMatchObject({ status: 0, stderr: '' });
    expect(processes.filter(isAlive)).toEqual([]);
    const again = startPodgate(['dev'], { env: { PODGATE_DIR: dir, PORT: '0' } });
    const [, nextUrl = ''] = await again.shows(/listens on (http:\S+)/);
    expect((await new Podgate({ baseUrl: nextUrl, key }).execute('print(1)')).stdout).toBe('1\n');
  });
});
