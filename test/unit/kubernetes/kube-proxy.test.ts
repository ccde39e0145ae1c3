import { writeFileSync } from 'node:fs';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createKubeClient, type KubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { type KubeConfigOptions, loadKubeContexts } from '../../../agent/backends/kubernetes/kube-config.ts';
import {
  createKubernetesBackend,
  type KubernetesBackend,
} from '../../../agent/backends/kubernetes/kubernetes-backend.ts';
import { openExec } from '../../../agent/backends/kubernetes/open-exec.ts';
import { CONTAINER } from '../../../agent/backends/kubernetes/pod-spec.ts';
import { readProxies } from '../../../agent/proxy.ts';
import { parseTemplate } from '../../../shared/template.ts';
import { type ConnectProxy, startConnectProxy } from '../../fakes/connect-proxy.ts';
import { eventually } from '../../fakes/eventually.ts';
import { openKubeFolder } from '../../fakes/kube-api/kube-folder.ts';
import { testClock } from '../../fakes/test-clock.ts';

const { api, newFile } = await openKubeFolder();
const PODS = '/api/v1/namespaces/default/pods';
const BEHIND = '127.0.0.1:1';
let proxy: ConnectProxy;

beforeEach(async () => {
  proxy = await startConnectProxy(Number(new URL(api.url).port));
  return () => proxy[Symbol.asyncDispose]();
});

/** The fake's cluster, where nothing listens but through the proxy. */
function proxied(proxyTimeoutMs: number): Promise<KubeClient> {
  return clientOf({ server: `https://${BEHIND}`, 'proxy-url': proxy.url }, { proxyTimeoutMs });
}

async function clientOf(cluster: object, options: KubeConfigOptions): Promise<KubeClient> {
  const config = JSON.parse(api.kubeconfig());
  Object.assign(config.clusters[0].cluster, cluster);
  const path = newFile();
  writeFileSync(path, JSON.stringify(config));
  const access = (await loadKubeContexts(path, options)).access('fake');
  onTestFinished(() => access.close());
  return createKubeClient(access);
}

async function openBackend(client: KubeClient): Promise<KubernetesBackend & AsyncDisposable> {
  const backend = await createKubernetesBackend({
    client,
    namespace: 'default',
    installation: 'test',
    instance: 'proxied',
    clock: testClock,
    random: Math.random,
    log: () => {},
  });
  return Object.assign(backend, { [Symbol.asyncDispose]: () => backend.close() });
}

describe('a proxy', () => {
  test('is gone through by calls', async () => {
    const client = await proxied(15_000);
    await expect(client.call({ method: 'GET', path: PODS })).resolves.toMatchObject({ items: [] });
    expect(proxy.asked).toEqual([BEHIND]);
  });

  test('that HTTPS_PROXY names is gone through where the kubeconfig names none, unless NO_PROXY names the server', async () => {
    const cluster = { server: 'https://kube.invalid:6443', 'tls-server-name': 'localhost' };
    const set = { HTTPS_PROXY: proxy.url };
    const client = await clientOf(cluster, { proxyTo: readProxies(set) });
    await expect(client.call({ method: 'GET', path: PODS })).resolves.toMatchObject({ items: [] });
    const asked = ['kube.invalid:6443'];
    expect(proxy.asked).toEqual(asked);
    const aside = await clientOf(cluster, { proxyTo: readProxies({ ...set, NO_PROXY: 'invalid' }) });
    await expect(aside.call({ method: 'GET', path: PODS })).rejects.toThrow(/cannot be reached: /);
    expect(proxy.asked).toEqual(asked);
    const proxyTo = readProxies({ HTTPS_PROXY: 'http://127.0.0.1:1' });
    const own = await clientOf({ ...cluster, 'proxy-url': proxy.url }, { proxyTo });
    await expect(own.call({ method: 'GET', path: PODS })).resolves.toMatchObject({ items: [] });
    const dead = await clientOf(cluster, { proxyTo });
    await expect(dead.call({ method: 'GET', path: PODS })).rejects.toThrow(
      'cannot be reached through its proxy: nothing listens there',
    );
  });

  test('carries a backend: its calls, its watch and its execs, however long they are silent', async () => {
    const client = await proxied(300);
    await using backend = await openBackend(client);
    const template = await parseTemplate({
      name: 'default',
      image: 'docker.io/library/python:lab',
      resources: { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpus: 0.5 },
    });
    const sandbox = await backend.create(template, AbortSignal.timeout(20_000));
    const place = { access: client.access, namespace: 'default', pod: sandbox.id, container: CONTAINER };
    // Longer than the proxy may take to make a way.
    const command = ['sh', '-c', 'sleep 1; echo out'];
    const stream = await openExec({ ...place, command, signal: AbortSignal.timeout(20_000) });
    expect((await stream.toArray()).join('')).toBe('out\n');
    await backend.create(template, AbortSignal.timeout(20_000));
    expect(api.counts.get('watch pods')).toBe(1);
  });

  test.for(['call', 'watch'] as const)(
    'that is silent keeps no socket of a %s that was given up',
    async (kind) => {
      proxy.silent = true;
      const client = await proxied(300);
      const tries = {
        call: () => client.call({ method: 'GET', path: PODS, timeoutMs: 100 }),
        watch: () => client.watch(PODS, {}, { signal: AbortSignal.timeout(100), idleMs: 1_000 }).next(),
      };
      await expect(tries[kind]()).rejects.toThrow();
      expect(proxy.asked).toHaveLength(1);
      await eventually(async () => proxy.connections === 0);
    },
  );
});
