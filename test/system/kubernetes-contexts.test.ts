import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { readAgentConfig } from '../../agent/config.ts';
import { startConfiguredAgent } from '../../agent/run-agent.ts';
import { startConnectProxy } from '../fakes/connect-proxy.ts';
import { eventually } from '../fakes/eventually.ts';
import { createKubeApi, type KubeApi } from '../fakes/kube-api/kube-api.ts';
import { type Entry, type Stack, startStack } from '../fakes/stack.ts';

let stack: Stack;
let api: KubeApi;
const log: Entry[] = [];

beforeAll(async () => {
  stack = await startStack({ agents: [] });
  api = await createKubeApi();
});
afterAll(async () => {
  await api?.[Symbol.asyncDispose]();
  await stack?.[Symbol.asyncDispose]();
});

function kubeconfig(context: string): string {
  const file = join(stack.dir, `kubeconfig-${crypto.randomUUID()}`);
  writeFileSync(file, api.kubeconfig({ context }));
  return file;
}

async function startAgent(clusters: string[], more: Record<string, string>): Promise<void> {
  const file = join(stack.dir, 'templates.yaml');
  const resources = { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpus: 0.5 };
  const template = { name: 'default', image: 'docker.io/library/python:lab', resources };
  writeFileSync(file, JSON.stringify({ templates: [{ ...template, pool: { min: 1, max: 2 } }] }));
  const environment = {
    PATH: process.env.PATH ?? '',
    EXECUTOR_BACKEND: 'kubernetes',
    PODGATE_GATEWAY_URL: stack.url,
    PODGATE_AGENT_TOKEN: await stack.agentToken(...clusters),
    PODGATE_AGENT_PORT: '0',
    PODGATE_CANARY: 'off',
    PODGATE_TEMPLATES: file,
    ...more,
  };
  const agent = await startConfiguredAgent({
    config: readAgentConfig({ environment }),
    software: 'podgate/test',
    log: (event, fields) => void log.push({ of: 'agent', event, ...fields }),
  });
  onTestFinished(() => agent.close());
}

const cluster = async (name: string) =>
  (await stack.podgate.clusters.list()).clusters.find((each) => each.name === name);

test('contexts that cannot be used are each one sentence with file and context at boot, and the others serve', async () => {
  const file = kubeconfig('fine');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  const [{ cluster: server }] = config.clusters;
  const { cert, key } = api.authority.issue({ name: 'old', notAfter: new Date('2020-02-03T00:00:00Z') });
  const encode = (text: string) => Buffer.from(text).toString('base64');
  const expired = { 'client-certificate-data': encode(cert), 'client-key-data': encode(key) };
  const bad: [name: string, cluster: object, user: object, sentence: string][] = [
    [
      'dead',
      { ...server, server: 'https://127.0.0.1:1' },
      { token: 'x' },
      `Context 'dead' of ${file}: The API server of context 'dead' cannot be reached: nothing listens there.`,
    ],
    [
      'expired',
      server,
      expired,
      `The client certificate of context 'expired' of ${file} expired on 2020-02-03T00:00:00.000Z.`,
    ],
    [
      'stranger',
      server,
      { token: 'nobody' },
      `Context 'stranger' of ${file}: The cluster does not accept the agent's credentials.`,
    ],
    [
      'no-ca',
      { server: server.server, 'certificate-authority': '/nowhere/ca.crt' },
      { token: 'x' },
      `Context 'no-ca' of ${file} names the file '/nowhere/ca.crt', which cannot be read.`,
    ],
    [
      'no-token',
      server,
      { tokenFile: '/nowhere/token' },
      `Context 'no-token' of ${file}: The token file '/nowhere/token' cannot be read.`,
    ],
  ];
  for (const [name, cluster, user] of bad) {
    config.clusters.push({ name, cluster });
    config.users.push({ name, user });
    config.contexts.push({ name, context: { cluster: name, user: name } });
  }
  writeFileSync(file, JSON.stringify(config));
  const missing = join(stack.dir, 'no-kubeconfig');
  const names = ['fine', ...bad.map(([name]) => name), 'unknown'];
  await startAgent(names, {
    KUBECONFIG: `${file}:${missing}`,
    KUBE_CONTEXTS: '*,unknown',
  });
  await eventually(async () => (await cluster('fine'))?.templates.some(({ slots_free }) => slots_free > 0));
  expect((await stack.run('print(1)', { cluster: 'fine' })).stdout).toBe('1\n');
  const sentences = [
    ...bad.map(([name, , , sentence]) => [name, sentence]),
    [
      'unknown',
      `${file}:${missing} has no context 'unknown': it has ${names
        .slice(0, -1)
        .map((name) => `'${name}'`)
        .join(', ')}. The kubeconfig '${missing}' cannot be read (ENOENT).`,
    ],
  ];
  for (const [name = '', sentence] of sentences) {
    const found = await eventually(async () => {
      const one = await cluster(name);
      return one?.state === 'unavailable' && one;
    });
    expect(found.detail).toBe(sentence);
    // Callers without the scope learn no file.
    const refused = await stack.post('/v1/execute', { code: '1', cluster: name });
    expect([refused.status, await refused.text()]).toEqual([503, expect.not.stringContaining(stack.dir)]);
  }
  const said = log.filter(({ event }) => event === 'cluster_unavailable');
  expect(said.map(({ detail }) => detail).sort()).toEqual(sentences.map(([, sentence]) => sentence).sort());
  expect(log.find(({ event }) => event === 'kubeconfig_ignored')).toMatchObject({
    detail: `The kubeconfig '${missing}' cannot be read (ENOENT).`,
  });
});

test('a cluster behind the proxy that HTTPS_PROXY names is served', async () => {
  const proxy = await startConnectProxy(Number(new URL(api.url).port));
  onTestFinished(() => proxy[Symbol.asyncDispose]());
  const file = kubeconfig('behind');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  Object.assign(config.clusters[0].cluster, {
    server: 'https://kube.invalid:6443',
    'tls-server-name': 'localhost',
  });
  writeFileSync(file, JSON.stringify(config));
  await startAgent(['behind'], { KUBECONFIG: file, HTTPS_PROXY: proxy.url });
  await eventually(async () => (await cluster('behind'))?.templates.some(({ slots_free }) => slots_free > 0));
  expect((await stack.run('print(1)', { cluster: 'behind' })).stdout).toBe('1\n');
  expect(new Set(proxy.asked)).toEqual(new Set(['kube.invalid:6443']));
  expect(log.some(({ event }) => event === 'proxies_passed_over')).toBe(false);
});

test.for([
  [
    'refuses its pods',
    {
      status: 403,
      message:
        'pods is forbidden: User "u" cannot create resource "pods" in API group "" in the namespace "default"',
    },
    'The agent may not create pods in namespace default: its Role lacks that rule.',
  ],
  [
    'has lost its namespace',
    { status: 404, message: 'namespaces "default" not found' },
    'Namespace default does not exist.',
  ],
] as const)(
  'a cluster that serves and %s says why to keys with the scope, and to no other',
  async ([what, fault, sentence]) => {
    const name = `secret-${what.split(' ')[0]}`;
    api.fault = ({ verb, resource }) => (verb === 'create' && resource === 'pods' ? fault : undefined);
    onTestFinished(() => {
      api.fault = undefined;
    });
    await startAgent([name], { KUBECONFIG: kubeconfig(name) });
    const found = await eventually(async () => {
      const one = await cluster(name);
      return one?.templates[0]?.trouble ? one : undefined;
    });
    expect([found.detail, found.templates[0]?.trouble?.detail]).toEqual([sentence, sentence]);
    const key = await stack.key({ scopes: ['execute'] });
    const headers = { authorization: `Bearer ${key}` };
    const refused = await stack.post('/v1/execute', { code: '1', cluster: name }, headers);
    expect([refused.status, await refused.json()]).toEqual([
      503,
      expect.objectContaining({ detail: 'The cluster cannot be reached or used now.' }),
    ]);
    expect((await stack.fetch('/v1/clusters', { headers })).status).toBe(403);
  },
);

test.for([
  ['missing', undefined, /^The kubeconfig '.*' cannot be read \(ENOENT\)\.$/],
  ['malformed', '{', /^The kubeconfig '.*' is malformed\.$/],
  ['without a context', '{}', /^The kubeconfig '.*' (holds no context|is malformed)\.$/],
] as const)('a kubeconfig that is %s stops the boot with one sentence', async ([name, text, words]) => {
  const path = join(stack.dir, `bad-${name}`);
  if (text !== undefined) writeFileSync(path, text);
  await expect(startAgent(['none'], { KUBECONFIG: path })).rejects.toMatchObject({
    detail: expect.stringMatching(words),
  });
});

test('a context whose name no cluster can have stops the boot, and is told its rename', async () => {
  const file = kubeconfig('admin@Prod');
  for (const wanted of ['*', 'admin@Prod'])
    await expect(startAgent(['none'], { KUBECONFIG: file, KUBE_CONTEXTS: wanted })).rejects.toMatchObject({
      detail: expect.stringMatching(/Rename it: KUBE_CONTEXTS=admin-prod=admin@Prod\.$/),
    });
});
