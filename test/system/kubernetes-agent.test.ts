import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { readAgentConfig } from '../../agent/config.ts';
import { startConfiguredAgent } from '../../agent/run-agent.ts';
import type { RunningAgent } from '../../agent/start-agent.ts';
import type { ExecuteRequest } from '../../client/types.ts';
import { eventually } from '../fakes/eventually.ts';
import { createKubeApi, type KubeApi } from '../fakes/kube-api/kube-api.ts';
import { type Entry, type Stack, startStack } from '../fakes/stack.ts';
import { streamRun } from '../fakes/streamed-run.ts';
import { until } from '../fakes/until.ts';

const PROCESS = fileURLToPath(new URL('../fakes/agent-process.ts', import.meta.url));
const LEASE_TIMES = { leaseSeconds: 1, renewMs: 200, reapMs: 200, slackMs: 200 };
const SMALL = {
  image: 'docker.io/library/python:lab',
  resources: { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpus: 0.5 },
};

let stack: Stack;
const apis: KubeApi[] = [];
const agents: RunningAgent[] = [];
const log: Entry[] = [];

/** One kubeconfig over several API servers, each under its own context. */
function kubeconfig(contexts: Record<string, KubeApi>): string {
  const parts = Object.entries(contexts).map(([name, api]) => {
    const { clusters, users } = JSON.parse(api.kubeconfig({ context: name }));
    return {
      cluster: { ...clusters[0], name },
      user: { ...users[0], name },
      context: { name, context: { cluster: name, user: name } },
    };
  });
  const file = join(stack.dir, `kubeconfig-${crypto.randomUUID()}`);
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': parts[0]?.context.name,
    clusters: parts.map(({ cluster }) => cluster),
    users: parts.map(({ user }) => user),
    contexts: parts.map(({ context }) => context),
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

function templates(list: object[]): string {
  const file = join(stack.dir, `templates-${crypto.randomUUID()}.yaml`);
  writeFileSync(file, JSON.stringify({ templates: list }));
  return file;
}

async function environment(clusters: string[], more: Record<string, string>) {
  return {
    PATH: process.env.PATH ?? '',
    EXECUTOR_BACKEND: 'kubernetes',
    PODGATE_GATEWAY_URL: stack.url,
    PODGATE_AGENT_TOKEN: await stack.agentToken(...clusters),
    PODGATE_AGENT_PORT: '0',
    // test/system/isolation.test.ts has its tests, and its pods would be beside those that are counted here.
    PODGATE_CANARY: 'off',
    ...more,
  };
}

async function startAgent(clusters: string[], more: Record<string, string>): Promise<RunningAgent> {
  const config = readAgentConfig({ environment: await environment(clusters, more) });
  const agent = await startConfiguredAgent({
    config,
    software: 'podgate/test',
    leaseTimes: LEASE_TIMES,
    log: (event, fields) => void log.push({ of: 'agent', event, ...fields }),
  });
  agents.push(agent);
  return agent;
}

const cluster = async (name: string) =>
  (await stack.podgate.clusters.list()).clusters.find((each) => each.name === name);

const warm = (name: string) =>
  eventually(async () => (await cluster(name))?.templates.some(({ slots_free }) => slots_free > 0));
const pods = (api: KubeApi, namespace = 'default') => api.store('pods').list(namespace);

const follow = (request: ExecuteRequest) => streamRun(stack, request);

beforeAll(async () => {
  stack = await startStack({ agents: [] });
  apis.push(await createKubeApi(), await createKubeApi());
});
afterAll(async () => {
  await Promise.all(agents.map((agent) => agent.close()));
  const left = apis.flatMap((api) => [...pods(api), ...pods(api, 'crowded')]);
  await Promise.all(apis.map((api) => api[Symbol.asyncDispose]()));
  await stack?.[Symbol.asyncDispose]();
  expect(left.filter(({ metadata }) => metadata.deletionTimestamp === undefined)).toEqual([]);
});

describe('an agent with two contexts', () => {
  let first: KubeApi;
  beforeAll(async () => {
    [first] = apis as [KubeApi, KubeApi];
    const file = kubeconfig({ one: apis[0] as KubeApi, 'Big@two': apis[1] as KubeApi });
    await startAgent(['one', 'two', 'gone'], {
      KUBECONFIG: file,
      KUBE_CONTEXTS: 'one,two=Big@two,gone',
      PODGATE_TEMPLATES: templates([
        { name: 'default', pool: { min: 2, max: 4 }, ...SMALL },
        { name: 'nowhere', pool: { min: 1, max: 1 }, ...SMALL, image: 'registry.invalid/none:1' },
      ]),
    });
    await Promise.all([warm('one'), warm('two')]);
  });

  test('runs one execution in each, by name, and says what the clusters are', async () => {
    for (const name of ['one', 'two']) {
      const result = await stack.run('print(6 * 7)', { cluster: name });
      expect(result).toMatchObject({ outcome: 'exited', stdout: '42\n', cluster: name });
      expect(await cluster(name)).toMatchObject({
        backend: 'kubernetes',
        kubernetes_version: 'v1.33.0-fake',
      });
    }
  });

  test('says which context is not there, while the others serve', async () => {
    expect(await cluster('gone')).toMatchObject({
      state: 'unavailable',
      detail: expect.stringMatching(/kubeconfig-\S+ has no context 'gone': it has 'one', 'Big@two'\.$/),
    });
    expect(log.filter(({ event }) => event === 'cluster_unavailable')).toHaveLength(1);
  });

  test('says image_error for an image that does not exist, and the trouble in /v1/clusters', async () => {
    const found = await eventually(async () =>
      (await cluster('one'))?.templates.find(({ name, trouble }) => name === 'nowhere' && trouble),
    );
    expect(found).toMatchObject({ slots_free: 0, slots_total: 1, trouble: { code: 'image_error' } });
    const response = await stack.post('/v1/execute', { code: '1', cluster: 'one', template: 'nowhere' });
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ code: 'image_error' });
  });

  test('goes on when an API server is cut and comes back: nothing is lost, and the other cluster serves', async () => {
    const code = `
import time
print('begun', flush=True)
time.sleep(1.5)
print('ended')`;
    const running = follow({ code, cluster: 'one' });
    await running.begun;
    const pool = () => agents[0]?.status().clusters.find(({ name }) => name === 'one')?.pools.default;
    await until(() => pool()?.idle === 2);
    await first.stop();
    const meanwhile = await stack.run('print("here")', { cluster: 'two' });
    expect(meanwhile).toMatchObject({ outcome: 'exited', stdout: 'here\n' });
    await first.start();
    const { event, body, stdout } = await running.last;
    expect({ event, stdout }).toEqual({ event: 'result', stdout: 'begun\nended\n' });
    expect(body).toMatchObject({ outcome: 'exited', exit_code: 0 });
    const after = await stack.run('print("again")', { cluster: 'one' });
    expect(after.stdout).toBe('again\n');
    // The one that ran, and one that waited.
    await until(() => log.filter(({ event }) => event === 'sandbox_stream_replaced').length >= 2);
  });

  test('keeps a session while an API server is away, with all that it had, and leaves no pod of it', async () => {
    const session = await stack.podgate.sessions.create({ cluster: 'one' });
    expect((await session.execute('import os\nx = 41\nopen("kept", "w").write("file")')).error).toBeNull();
    const running = session.execute('import time\ntime.sleep(1.5)\nx += 1\nx');
    await eventually(async () => (await session.state()).running === 1);
    await first.stop();
    await first.start();
    expect((await running).stdout).toBe('42\n');
    expect((await session.execute('x, open("kept").read()')).stdout).toBe("(42, 'file')\n");
    await session.files.write('b.txt', 'written');
    expect(await new Response(await session.files.read('b.txt')).text()).toBe('written');
    const pod = pods(first).length;
    await session.end();
    await eventually(async () => {
      const states = agents[0]?.status().clusters.find(({ name }) => name === 'one')?.pools.default;
      return states?.taken === 0 && states.retiring === 0;
    });
    expect(pods(first).length).toBeLessThanOrEqual(pod);
  });

  test('tells a program that filled the container’s memory so', async () => {
    const running = follow({
      code: 'import time\nprint("begun", flush=True)\ntime.sleep(30)',
      cluster: 'one',
    });
    await running.begun;
    const busy = agents[0]?.status().clusters.find(({ name }) => name === 'one')?.pools.default?.taken;
    expect(busy).toBe(1);
    // Which pod runs it is the agent's secret: all of them are killed.
    for (const { metadata } of pods(first))
      try {
        first.kubelet.end(metadata.name, { containerReason: 'OOMKilled' });
      } catch {
        // One that runs no container yet.
      }
    const { event, body } = await running.last;
    expect({ event, outcome: body.outcome, code: body.exit_code }).toEqual({
      event: 'result',
      outcome: 'memory_limit',
      code: 137,
    });
  });
});

describe('a namespace with a quota of 5 pods', () => {
  test('serves with five, says quota_exceeded, and never has more', async () => {
    const api = apis[1] as KubeApi;
    api.store('namespaces').add({ kind: 'Namespace', metadata: { name: 'crowded', namespace: '' } });
    const metadata = { name: 'pods', namespace: 'crowded' };
    api.store('resourcequotas').add({ kind: 'ResourceQuota', metadata, spec: { hard: { pods: '5' } } });
    await startAgent(['crowded'], {
      KUBECONFIG: kubeconfig({ crowded: api }),
      KUBERNETES_NAMESPACE: 'crowded',
      PODGATE_TEMPLATES: templates([{ name: 'default', pool: { min: 7, max: 8 }, ...SMALL }]),
    });
    const found = await eventually(async () =>
      (await cluster('crowded'))?.templates.find((each) => each.trouble),
    );
    expect(found.trouble).toMatchObject({ code: 'quota_exceeded' });
    await warm('crowded');
    expect((await stack.run('print(1)', { cluster: 'crowded' })).stdout).toBe('1\n');
    expect(pods(api, 'crowded').length).toBeLessThanOrEqual(5);
  });
});

describe('an agent that is killed with -9 amid executions', () => {
  test('leaves callers the truth, and its pods to the next one, which leaves none', async () => {
    const api = apis[0] as KubeApi;
    api.store('namespaces').add({ kind: 'Namespace', metadata: { name: 'killed', namespace: '' } });
    const env = await environment(['killed'], {
      KUBECONFIG: kubeconfig({ killed: api }),
      KUBERNETES_NAMESPACE: 'killed',
      PODGATE_TEMPLATES: templates([{ name: 'default', pool: { min: 4, max: 4 }, ...SMALL }]),
    });
    const start = () => {
      const child = spawn(process.execPath, [PROCESS, JSON.stringify(LEASE_TIMES)], { env, stdio: 'ignore' });
      onTestFinished(() => void child.kill('SIGKILL'));
      return child;
    };
    const before = start();
    await warm('killed');
    const code = 'import time\nprint("begun", flush=True)\ntime.sleep(30)';
    const runs = [1, 2, 3, 4].map(() => follow({ code, cluster: 'killed', queue_timeout_ms: 10_000 }));
    await Promise.all(runs.map(({ begun }) => begun));
    const old = pods(api, 'killed').map(({ metadata }) => metadata.uid);
    expect(old.length).toBeGreaterThanOrEqual(4);
    before.kill('SIGKILL');
    for (const { event, body } of await Promise.all(runs.map(({ last }) => last)))
      expect({ event, code: body.code, started: body.started }).toEqual({
        event: 'error',
        code: 'agent_lost',
        started: 'yes',
      });
    const after = start();
    await until(() => pods(api, 'killed').every(({ metadata }) => !old.includes(metadata.uid)));
    await warm('killed');
    expect((await stack.run('print(1)', { cluster: 'killed' })).stdout).toBe('1\n');
    after.kill('SIGTERM');
    await once(after, 'exit');
    await until(() => pods(api, 'killed').length === 0);
    expect(api.store('leases').list('killed')).toEqual([]);
  });
});
