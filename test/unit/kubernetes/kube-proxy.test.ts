import { writeFileSync } from 'node:fs';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createKubeClient, type KubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { loadKubeContexts } from '../../../agent/backends/kubernetes/kube-config.ts';
import { type ConnectProxy, startConnectProxy } from '../../fakes/connect-proxy.ts';
import { eventually } from '../../fakes/eventually.ts';
import { openKubeFolder } from '../../fakes/kube-api/kube-folder.ts';

const { api, newFile } = await openKubeFolder();
const PODS = '/api/v1/namespaces/default/pods';
let proxy: ConnectProxy;

beforeEach(async () => {
  proxy = await startConnectProxy();
  return () => proxy[Symbol.asyncDispose]();
});

/** The fake's cluster, behind the proxy. */
async function proxied(proxyTimeoutMs: number): Promise<KubeClient> {
  const config = JSON.parse(api.kubeconfig());
  config.clusters[0].cluster['proxy-url'] = proxy.url;
  const path = newFile();
  writeFileSync(path, JSON.stringify(config));
  const access = (await loadKubeContexts(path, { proxyTimeoutMs })).access('fake');
  onTestFinished(() => access.close());
  return createKubeClient(access);
}

describe('a proxy', () => {
  test('is gone through by calls', async () => {
    const client = await proxied(15_000);
    await expect(client.call({ method: 'GET', path: PODS })).resolves.toMatchObject({ items: [] });
    expect(proxy.asked).toEqual([new URL(api.url).host]);
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
