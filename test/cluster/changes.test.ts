import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { parse } from 'yaml';
import type { Pod } from '../../agent/backends/kubernetes/kube-objects.ts';
import { REAL_KUBECONFIG } from '../contract/kubernetes-cluster.ts';
import { eventually } from '../fakes/eventually.ts';
import { startTcpProxy } from '../fakes/tcp-proxy.ts';
import { shell, smallTemplate } from './real-clusters.ts';
import { openServing, type Serving } from './serving.ts';

const LONG_MS = 600_000;
/** Each line a second after the one before. */
const LINES = 15;
const COUNT = `import time\nfor n in range(${LINES}):\n    print(n, flush=True)\n    time.sleep(1)`;
const COUNTED = Array.from({ length: LINES }, (_, n) => `${n}\n`).join('');
const OUTAGE_MS = 5_000;
const MIN = 2;
const { PODGATE_TEST_OUTAGE: outage } = process.env;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

vi.setConfig({ testTimeout: LONG_MS, hookTimeout: LONG_MS });

type Node = { metadata: { name: string }; spec: { unschedulable?: boolean } };

if (REAL_KUBECONFIG === undefined)
  test.skip('PODGATE_TEST_KUBECONFIG is not set: there is no cluster to change under an agent', () => {});
else
  describe('an agent, without a restart,', () => {
    let serving: Serving;
    let name = '';
    const folder = mkdtempSync(join(tmpdir(), 'podgate-changes-'));
    beforeAll(async () => {
      serving = await openServing();
      name = serving.clusters.names[0] ?? '';
    });
    afterEach(() => serving.rest());
    afterAll(async () => {
      await serving?.[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    });

    const call = <T>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: object) =>
      serving.clusters.client(name).call<T>({ method, path, ...(body && { body }) });
    const templates = [smallTemplate({ pool: { min: MIN, max: 4 } })];
    const start = async () => {
      const agent = await serving.start({ contexts: [name], templates });
      await serving.warm(name);
      return agent;
    };
    const trouble = (codes: RegExp) =>
      eventually(
        async () => codes.test((await serving.listed(name))?.templates[0]?.trouble?.code ?? ''),
        LONG_MS / 2,
      );
    const serves = async () =>
      expect(await serving.run(name, 'print(1)')).toMatchObject({ outcome: 'exited', stdout: '1\n' });
    const ownPods = (where = serving.clusters.namespace) => `/api/v1/namespaces/${where}/pods`;

    test('replaces pods that somebody deletes while they wait', async () => {
      await start();
      for (let round = 0; round < 3; round += 1) {
        for (const { metadata } of await serving.live(name))
          await call('DELETE', `${ownPods()}/${metadata?.name}`);
        await serves();
      }
    });

    test('says that a pod was deleted while its code ran, and serves the next', async () => {
      await start();
      const before = await serving.live(name);
      const run = serving.stream(name, COUNT);
      await run.begun;
      for (const { metadata } of before) await call('DELETE', `${ownPods()}/${metadata?.name}`);
      const { event, body, stdout } = await run.last;
      expect({ event, code: body.code, started: body.started }).toEqual({
        event: 'error',
        code: 'sandbox_lost',
        started: 'yes',
      });
      expect(COUNTED.startsWith(stdout)).toBe(true);
      await serves();
    });

    test('says quota_exceeded while a quota leaves room for none, and serves when it does', async () => {
      await start();
      const quota = { apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name: 'none' } };
      await serving.clusters.create(name, 'resourcequotas', { ...quota, spec: { hard: { pods: '0' } } });
      let removed = false;
      onTestFinished(async () => {
        if (!removed) await serving.clusters.remove(name, 'resourcequotas', 'none');
      });
      // The two that wait serve until they are used up.
      for (let round = 0; round < MIN; round += 1) await serves();
      await eventually(async () => {
        const now = (await serving.listed(name))?.templates[0];
        return now?.trouble?.code === 'quota_exceeded' && now.slots_free === 0;
      });
      await serving.clusters.remove(name, 'resourcequotas', 'none');
      removed = true;
      await serves();
    });

    test('serves again in a namespace that was deleted and made anew', async () => {
      const namespace = `${serving.clusters.namespace}-again`;
      const path = `/api/v1/namespaces/${namespace}`;
      const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
      const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels } };
      await call('POST', '/api/v1/namespaces', body);
      onTestFinished(async () => void (await call('DELETE', path)));
      await serving.start({ contexts: [name], templates, namespace });
      await serving.warm(name);
      await call('DELETE', path);
      await trouble(/backend_unavailable/);
      await eventually(
        () =>
          call('GET', path).then(
            () => false,
            () => true,
          ),
        LONG_MS / 2,
      );
      await call('POST', '/api/v1/namespaces', body);
      await eventually(async () => (await serving.listed(name))?.templates[0]?.slots_free, LONG_MS / 2);
      await serves();
    });

    test('serves a cluster that is dead at boot as soon as it is there, by a name of its own', async () => {
      const proxy = await startTcpProxy(serverPort(name));
      onTestFinished(() => proxy[Symbol.asyncDispose]());
      proxy.accept(false);
      const kubeconfig = behind(proxy.port, name, join(folder, 'late'));
      await serving.start({ contexts: [`late=${name}`], templates, kubeconfig });
      const late = () => serving.listed('late');
      const found = await eventually(async () => {
        const now = await late();
        return now?.detail && now;
      });
      expect(found).toMatchObject({
        state: 'unavailable',
        detail: expect.stringContaining('cannot be reached'),
      });
      const refused = await serving.stack.post('/v1/execute', { code: '1', cluster: 'late' });
      expect(await refused.json()).toMatchObject({
        status: 503,
        code: 'backend_unavailable',
        retryable: true,
      });
      proxy.accept(true);
      await eventually(async () => (await late())?.templates[0]?.slots_free);
      expect(await serving.run('late', 'print(1)')).toMatchObject({ stdout: '1\n' });
    });

    test('says unschedulable while its node is drained, and serves when it is not', async (context) => {
      context.skip(!outage, 'PODGATE_TEST_OUTAGE is not set: the node is not these tests’ own');
      await start();
      const { items } = await call<{ items: Node[] }>('GET', '/api/v1/nodes');
      const cordon = async (unschedulable: boolean) => {
        for (const { metadata } of items) {
          const path = `/api/v1/nodes/${metadata.name}`;
          const node = await call<Node>('GET', path);
          await call('PUT', path, { ...node, spec: { ...node.spec, unschedulable } });
        }
      };
      onTestFinished(() => cordon(false));
      const run = serving.stream(name, COUNT);
      await run.begun;
      await cordon(true);
      for (const { metadata } of await serving.live(name))
        await call('POST', `${ownPods()}/${metadata?.name}/eviction`, {
          apiVersion: 'policy/v1',
          kind: 'Eviction',
          metadata: { name: metadata?.name },
        });
      expect((await run.last).body).toMatchObject({ code: 'sandbox_lost', started: 'yes' });
      await trouble(/unschedulable/);
      await cordon(false);
      await serves();
    });

    test.for(['kubelet', 'containerd', 'etcd'])(
      'goes on with what runs, and serves, when %s is away for a moment',
      async (part, context) => {
        context.skip(!outage, 'PODGATE_TEST_OUTAGE is not set');
        await start();
        const run = serving.stream(name, COUNT);
        await run.begun;
        await shell(`${outage} stop ${part}`);
        await pause(OUTAGE_MS);
        await shell(`${outage} start ${part}`);
        const { event, body, stdout } = await run.last;
        expect({ event, outcome: body.outcome, stdout }).toEqual({
          event: 'result',
          outcome: 'exited',
          stdout: COUNTED,
        });
        for (let round = 0; round < 5; round += 1) await serves();
      },
    );

    test('serves again when a node that was not ready is', async (context) => {
      context.skip(!outage, 'PODGATE_TEST_OUTAGE is not set');
      await start();
      await shell(`${outage} stop kubelet`);
      onTestFinished(() => shell(`${outage} start kubelet`));
      await trouble(/unschedulable|backend_unavailable/);
      await shell(`${outage} start kubelet`);
      await eventually(async () => (await serving.listed(name))?.templates[0]?.slots_free, LONG_MS / 2);
      await serves();
      await eventually(async () => (await serving.live(name)).every(isWhole));
    });
  });

/** No pod that nobody will ever use. */
function isWhole({ status }: Pod): boolean {
  return status?.phase === 'Running' || status?.phase === 'Pending';
}

type Config = {
  clusters: { name: string; cluster: Record<string, string> }[];
  contexts: { name: string; context: { cluster: string } }[];
};

function configOf(context: string): { config: Config; cluster: Record<string, string>; file: string } {
  for (const path of (REAL_KUBECONFIG ?? '').split(delimiter)) {
    const file = resolve(path);
    const config: Config = parse(readFileSync(file, 'utf8'));
    const wanted = config.contexts.find((each) => each.name === context)?.context.cluster;
    const found = config.clusters.find((each) => each.name === wanted);
    if (found) return { config, cluster: found.cluster, file };
  }
  throw new Error(`no file has the context ${context}`);
}

function serverPort(context: string): number {
  return Number(new URL(configOf(context).cluster.server ?? '').port || 443);
}

/** A kubeconfig that reaches the context's server through a port of this machine. */
function behind(port: number, context: string, path: string): string {
  const { config, cluster, file } = configOf(context);
  const { hostname } = new URL(cluster.server ?? '');
  Object.assign(cluster, { server: `https://127.0.0.1:${port}`, 'tls-server-name': hostname });
  const authority = cluster['certificate-authority'];
  if (authority) cluster['certificate-authority'] = resolve(dirname(file), authority);
  writeFileSync(path, JSON.stringify(config));
  return path;
}
