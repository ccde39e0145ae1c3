import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { readAgentConfig } from '../../agent/config.ts';
import { startConfiguredAgent } from '../../agent/run-agent.ts';
import type { RunningAgent } from '../../agent/start-agent.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { NODE_IP, SERVICE_IP } from '../fakes/kube-api/fake-kubelet.ts';
import { createKubeApi, type KubeApi } from '../fakes/kube-api/kube-api.ts';
import { isAlive } from '../fakes/process-tree.ts';
import { type Entry, type Stack, startStack } from '../fakes/stack.ts';
import { until } from '../fakes/until.ts';

/** Every pod of these tests has a loopback of its own, and nothing else: these are addresses there. */
const TARGETS = [
  'dns=127.0.0.4:5353',
  'api=apiserver:6443',
  'metadata=127.0.0.5:8080',
  'node=node:10250',
  'internet=127.0.0.6:4433',
].join(',');
const REACHABLE = [
  '127.0.0.4:5353',
  `${SERVICE_IP}:6443`,
  '127.0.0.5:8080',
  `${NODE_IP}:10250`,
  '127.0.0.6:4433',
];
const SMALL = {
  image: 'docker.io/library/python:lab',
  resources: { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpus: 0.5 },
};
/** For tests of what comes after the first canary. */
const OFTEN_MS = 2_000;
const LEASE_TIMES = { leaseSeconds: 2, renewMs: 200, reapMs: 200, slackMs: 500 };

let stack: Stack;
let api: KubeApi;

type Started = { agent: RunningAgent; log: Entry[]; name: string };

async function startAgent(
  name: string,
  templates: readonly TemplateInput[],
  { everyMs = 600_000, more = {} }: { everyMs?: number; more?: Record<string, string> } = {},
): Promise<Started> {
  const namespace = more.KUBERNETES_NAMESPACE ?? name;
  if (!api.store('namespaces').get('', namespace))
    api.store('namespaces').add({ kind: 'Namespace', metadata: { name: namespace, namespace: '' } });
  const kubeconfig = join(stack.dir, `kubeconfig-${crypto.randomUUID()}`);
  writeFileSync(kubeconfig, api.kubeconfig({ context: name }));
  const file = join(stack.dir, `templates-${crypto.randomUUID()}.yaml`);
  writeFileSync(file, JSON.stringify({ templates }));
  const environment = {
    PATH: process.env.PATH ?? '',
    EXECUTOR_BACKEND: 'kubernetes',
    PODGATE_GATEWAY_URL: stack.url,
    PODGATE_AGENT_TOKEN: await stack.agentToken(name),
    PODGATE_AGENT_PORT: '0',
    PODGATE_TEMPLATES: file,
    PODGATE_CANARY_TARGETS: TARGETS,
    KUBECONFIG: kubeconfig,
    KUBERNETES_NAMESPACE: namespace,
    ...more,
  };
  const log: Entry[] = [];
  const config = readAgentConfig({ environment });
  const agent = await startConfiguredAgent({
    config: { ...config, canary: config.canary && { ...config.canary, everyMs } },
    software: 'podgate/test',
    leaseTimes: LEASE_TIMES,
    log: (event, fields) => void log.push({ of: 'agent', event, ...fields }),
  });
  onTestFinished(() => agent.close());
  return { agent, log, name };
}

const cluster = async (name: string) =>
  (await stack.podgate.clusters.list()).clusters.find((each) => each.name === name);
const template = async (name: string, wanted = 'default') =>
  (await cluster(name))?.templates.find((each) => each.name === wanted);
const canaryPods = (namespace: string) =>
  api
    .store('pods')
    .list(namespace)
    .filter(({ spec }) => spec.containers[0].env !== undefined);

/** Until it is repaired, or the test is over. */
function fail(faults: Partial<KubeApi['kubelet']['faults']>): () => void {
  const before = api.kubelet.faults;
  const repair = () => {
    api.kubelet.faults = before;
  };
  api.kubelet.faults = { ...before, ...faults };
  onTestFinished(repair);
  return repair;
}

const metrics = async ({ httpPort }: RunningAgent) =>
  (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();

async function eventually<T>(look: () => Promise<T | undefined | null | false>): Promise<T> {
  const startedMs = performance.now();
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() - startedMs > 25_000) throw new Error(`it never came to be: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** State by name of a report that has come to its end. */
async function states(name: string, wanted = 'default'): Promise<Record<string, string>> {
  const { findings } = await eventually(async () => {
    const isolation = (await template(name, wanted))?.isolation;
    return isolation?.findings.some((each) => each.name === 'policy.dns') && isolation;
  });
  return Object.fromEntries(findings.map((each) => [each.name, each.state]));
}

beforeAll(async () => {
  stack = await startStack({ agents: [] });
  api = await createKubeApi();
});
afterAll(async () => {
  await api?.[Symbol.asyncDispose]();
  // What was in a container is gone a moment after it.
  await eventually(async () => stack.sandboxProcesses().every((each) => !isAlive(each)));
  await stack?.[Symbol.asyncDispose]();
});

const OF_EVERY_SANDBOX = {
  'sandbox.shared': 'holds',
  'files.write': 'holds',
  'files.token': 'holds',
  environment: 'holds',
  'privilege.user': 'holds',
  'privilege.capabilities': 'holds',
  'privilege.setuid': 'holds',
  'privilege.no_new_privs': 'holds',
  'privilege.seccomp': 'holds',
};
const all = (group: string, state: string, kinds = ['dns', 'api', 'metadata', 'node', 'internet']) =>
  Object.fromEntries(kinds.map((kind) => [`${group}.${kind}`, state]));

describe('the isolation that /v1/clusters shows', () => {
  test('holds where the network refuses, each promise by name and when it was looked at', async () => {
    const { agent } = await startAgent('closed', [{ name: 'default', pool: { min: 1, max: 2 }, ...SMALL }]);
    expect(await states('closed')).toEqual({
      ...OF_EVERY_SANDBOX,
      'network.sockets': 'holds',
      ...all('network', 'holds'),
      ...all('policy', 'holds'),
    });
    const found = await cluster('closed');
    expect(found?.isolation.checked_at).toBeGreaterThan(Date.now() / 1000 - 60);
    expect(found?.isolation.findings.map(({ name }) => name).sort()).toEqual(
      found?.templates[0]?.isolation?.findings.map(({ name }) => name).sort(),
    );
    expect((await stack.run('print(1)', { cluster: 'closed' })).stdout).toBe('1\n');
    await eventually(async () => canaryPods('closed').length === 0);
    const text = await metrics(agent);
    expect(text).toContain(
      'podgate_agent_isolation{cluster="closed",template="default",finding="policy.internet",state="holds"} 1',
    );
    expect(text).toMatch(
      /podgate_agent_isolation_checked_timestamp_seconds\{cluster="closed",template="default"\} \d{10}/,
    );
    expect(text).toContain('podgate_agent_canaries_total{cluster="closed",result="reported"} 1');
  });

  test('tells the network’s refusal from the filter’s: a policy that nobody enforces is said, and the filter holds', async () => {
    fail({ reachable: REACHABLE });
    const { log } = await startAgent('open', [
      { name: 'default', pool: { min: 1, max: 2 }, ...SMALL },
      { name: 'strict', pool: { min: 1, max: 1 }, require: ['seccomp', 'network_policy'], ...SMALL },
    ]);
    expect(await states('open')).toMatchObject({
      'network.sockets': 'holds',
      ...all('network', 'holds'),
      ...all('policy', 'broken'),
    });
    const named = await template('open');
    expect(named?.isolation).toMatchObject({ state: 'broken' });
    expect(named?.isolation?.findings.find(({ name }) => name === 'policy.node')?.detail).toBe(
      `${NODE_IP}:10250 was reached.`,
    );
    expect((await stack.run('print(1)', { cluster: 'open' })).stdout).toBe('1\n');
    // Whoever wants more than the filter says so, and has no work there.
    await eventually(async () => (await template('open', 'strict'))?.trouble);
    const refused = await stack.post('/v1/execute', { code: '1', cluster: 'open', template: 'strict' });
    expect(refused.status).toBe(503);
    expect(await refused.json()).toMatchObject({
      code: 'isolation_failed',
      retryable: true,
      detail:
        "The isolation that template 'strict' promises does not hold here (policy.dns, policy.api, policy.metadata, policy.node, policy.internet).",
    });
    expect(
      log.filter(({ event, template }) => event === 'isolation_checked' && template === 'default'),
    ).toHaveLength(1);
  });
});

test('a local sandbox is tried as a pod is, and holds work until it is proven', async () => {
  await using local = await startStack({
    agents: [{ cluster: 'local', variables: { PODGATE_CANARY: 'refuse' } }],
  });
  const announced = async () => (await local.podgate.clusters.list()).clusters[0];
  expect(local.log.filter(({ event }) => event === 'isolation_refuses')).toEqual([]);
  const found = await eventually(async () => {
    const one = await announced();
    return one?.isolation.checked_at != null && one;
  });
  const states = found.isolation.findings.map(({ name, state }) => [name, state]);
  expect(Object.fromEntries(states)).toMatchObject({ ...OF_EVERY_SANDBOX, 'network.sockets': 'holds' });
  expect((await local.run('print(1)', {})).stdout).toBe('1\n');
});

describe('a template whose promise does not hold', () => {
  test('refuses work, says why, and serves again with new sandboxes when a later canary holds', async () => {
    const repair = fail({ token: true });
    const { log } = await startAgent('token', [{ name: 'default', pool: { min: 1, max: 2 }, ...SMALL }]);
    const found = await eventually(async () => {
      const one = await cluster('token');
      return one?.templates[0]?.trouble && one;
    });
    expect(found).toMatchObject({
      state: 'unavailable',
      detail: "The isolation that template 'default' promises does not hold here (files.token).",
    });
    const refused = await stack.post('/v1/execute', { code: 'print(1)', cluster: 'token' });
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).not.toBeNull();
    // Callers learn which promise, and no path of the cluster's.
    expect(await refused.text()).not.toContain('serviceaccount');
    const broken = found.isolation.findings.filter(({ state }) => state === 'broken');
    expect(broken).toEqual([
      { name: 'files.token', state: 'broken', detail: expect.stringContaining('serviceaccount') },
    ]);
    repair();
    await eventually(async () => (await template('token'))?.trouble === null);
    const look = 'import os; print(os.path.exists("/var/run/secrets"))';
    expect((await stack.run(look, { cluster: 'token', queue_timeout_ms: 10_000 })).stdout).toBe('False\n');
    const said = log.filter(({ event }) => String(event).startsWith('isolation_'));
    expect(said.filter(({ event }) => event === 'isolation_refuses')).toHaveLength(1);
    expect(said.filter(({ event }) => event === 'isolation_holds_again')).toHaveLength(1);
  });

  test('refuses work where no filter holds its programs and they reach the cluster’s servers, though it requires none', async () => {
    fail({ unfiltered: true, reachable: REACHABLE });
    const template = { name: 'default', pool: { min: 1, max: 2 }, require: [], ...SMALL };
    await startAgent('unfiltered', [template]);
    expect(await states('unfiltered')).toMatchObject(all('network', 'broken'));
    expect(await cluster('unfiltered')).toMatchObject({
      state: 'unavailable',
      detail: expect.stringContaining('(network.dns, network.api, network.metadata, network.node, '),
    });
  });

  test('serves all the same where the policy is to report', async () => {
    fail({ token: true });
    await startAgent('reported', [{ name: 'default', pool: { min: 1, max: 2 }, ...SMALL }], {
      more: { PODGATE_CANARY: 'report' },
    });
    expect((await states('reported'))['files.token']).toBe('broken');
    expect(await template('reported')).toMatchObject({ trouble: null, isolation: { state: 'broken' } });
    expect((await stack.run('print(1)', { cluster: 'reported' })).stdout).toBe('1\n');
  });
});

describe('two agents on one cluster', () => {
  test('share what the one that leads has found: the other runs no canary', async () => {
    const templates = [{ name: 'default', pool: { min: 1, max: 2 }, ...SMALL }];
    const one = await startAgent('shared', templates);
    await states('shared');
    const announced = ({ agent }: Started) => agent.status().clusters[0];
    const two = await startAgent('shared', templates);
    // A round is written twice: when its first sandbox has reported, and when it is whole.
    await until(() => announced(two)?.isolation.findings.some(({ name }) => name === 'policy.dns') ?? false);
    expect(announced(two)?.templates[0]?.isolation?.state).toBe('holds');
    expect(
      announced(two)
        ?.isolation.findings.map(({ name }) => name)
        .sort(),
    ).toEqual(
      announced(one)
        ?.isolation.findings.map(({ name }) => name)
        .sort(),
    );
    expect(await metrics(two.agent)).toContain(
      'podgate_agent_canaries_total{cluster="shared",result="reported"} 0',
    );
    expect(two.log.filter(({ event }) => event === 'canary_failed')).toEqual([]);
    await one.agent.close();
    expect((await stack.run('print(1)', { cluster: 'shared', queue_timeout_ms: 10_000 })).stdout).toBe('1\n');
  });
});

describe('while its canary runs, a cluster', () => {
  test('that dies keeps serving what was proven, and is looked at again when it is back', async () => {
    const { agent } = await startAgent('dies', [{ name: 'default', pool: { min: 2, max: 3 }, ...SMALL }], {
      everyMs: OFTEN_MS,
    });
    await states('dies');
    const checkedAt = () => agent.status().clusters[0]?.templates[0]?.isolation?.checked_at ?? 0;
    const first = checkedAt();
    // The next round finds its pods and loses them.
    await eventually(async () => canaryPods('dies').length > 0 && checkedAt() === first);
    await api.stop();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(agent.status().clusters[0]?.templates[0]?.trouble).toBeNull();
    await api.start();
    await eventually(async () => checkedAt() > first);
    expect((await stack.run('print(1)', { cluster: 'dies', queue_timeout_ms: 10_000 })).stdout).toBe('1\n');
  }, 60_000);

  test('whose node kills the canary’s pod refuses nobody that was proven, and leaves no pod', async () => {
    const { agent, log } = await startAgent(
      'kills',
      [{ name: 'default', pool: { min: 2, max: 3 }, ...SMALL }],
      { everyMs: OFTEN_MS },
    );
    await states('kills');
    await eventually(async () => canaryPods('kills').length === 0);
    const killed = new Set<string>();
    await eventually(async () => {
      for (const { metadata } of canaryPods('kills'))
        try {
          api.kubelet.end(metadata.name, { containerReason: 'OOMKilled' });
          killed.add(metadata.name);
        } catch {
          // One that runs no container yet.
        }
      return killed.size > 0;
    });
    await eventually(async () => canaryPods('kills').length === 0);
    expect(agent.status().clusters[0]?.templates[0]?.trouble).toBeNull();
    expect(log.filter(({ event }) => event === 'isolation_refuses')).toEqual([]);
    expect((await stack.run('print(1)', { cluster: 'kills', queue_timeout_ms: 10_000 })).stdout).toBe('1\n');
  });

  test('with hostile code in other sandboxes is found as it is', async () => {
    const { agent } = await startAgent('hostile', [{ name: 'default', pool: { min: 2, max: 4 }, ...SMALL }], {
      everyMs: OFTEN_MS,
    });
    await states('hostile');
    const first = agent.status().clusters[0]?.isolation.checked_at ?? 0;
    const code = `
import glob, os, socket, time
end = time.monotonic() + 5
while time.monotonic() < end:
    for place in ('.', '/tmp', '/dev/shm'):
        for mark in glob.glob(os.path.join(place, 'canary*')): print('met', mark, flush=True)
    for name in os.listdir('/proc'):
        try:
            if name.isdigit() and open('/proc/%s/comm' % name).read().startswith('canary'):
                print('met', name, flush=True)
                os.kill(int(name), 9)
        except OSError: pass
    for pid in range(2, 40):
        try: os.kill(pid, 19) if pid != os.getpid() else None
        except OSError: pass
    time.sleep(0.05)
print('alone')`;
    const running = Promise.all(
      [1, 2].map(() => stack.run(code, { cluster: 'hostile', timeout_ms: 20_000 })),
    );
    running.catch(() => {});
    await eventually(async () => (agent.status().clusters[0]?.isolation.checked_at ?? 0) > first);
    expect(agent.status().clusters[0]?.templates[0]).toMatchObject({
      trouble: null,
      isolation: { state: 'holds' },
    });
    for (const { stdout } of await running) expect(stdout).toBe('alone\n');
  }, 60_000);
});
