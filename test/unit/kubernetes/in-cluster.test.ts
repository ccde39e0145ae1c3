import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { IN_CLUSTER_CONTEXT } from '../../../agent/backends/kubernetes/cluster-contexts.ts';
import { TOKEN_FILE_MAX_AGE_MS } from '../../../agent/backends/kubernetes/kube-access.ts';
import { createKubeClient, type KubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import {
  type KubeContexts,
  loadKubeContexts,
  OWN_TOKEN,
} from '../../../agent/backends/kubernetes/kube-config.ts';
import type { ProxyTo } from '../../../agent/proxy.ts';
import { openKubeFolder } from '../../fakes/kube-api/kube-folder.ts';

const { api, newFile } = await openKubeFolder();
const PODS = { method: 'GET', path: '/api/v1/namespaces/default/pods' } as const;
/** Longer than anything keeps what a file said. */
const MINUTES_MS = 120_000;
let root: string;

/** What a pod of the fake's cluster sees, and no kubeconfig. */
beforeEach(() => {
  root = newFile();
  const { hostname, port } = new URL(api.url);
  vi.stubEnv('HOME', root);
  vi.stubEnv('KUBERNETES_SERVICE_HOST', hostname);
  vi.stubEnv('KUBERNETES_SERVICE_PORT', port);
  vi.useFakeTimers({ toFake: ['Date', 'performance'] });
  return () => {
    vi.unstubAllEnvs();
    vi.useRealTimers();
  };
});

const ownFile = (name: string) => join(root, dirname(OWN_TOKEN), name);

function mount(token: string): void {
  mkdirSync(dirname(root + OWN_TOKEN), { recursive: true });
  api.kubeconfig({ token });
  writeFileSync(ownFile('token'), `${token}\n`);
  writeFileSync(ownFile('ca.crt'), api.authority.cert);
  writeFileSync(ownFile('namespace'), 'sandboxes');
}

const load = (proxyTo?: ProxyTo): Promise<KubeContexts> =>
  loadKubeContexts(undefined, { root, ...(proxyTo && { proxyTo }) });

async function clientOf(): Promise<KubeClient> {
  const client = createKubeClient((await load()).access(IN_CLUSTER_CONTEXT));
  onTestFinished(() => client.access.close());
  return client;
}

const tokenOf = async ({ access }: KubeClient) => (await access.connection()).headers.authorization;

describe('an agent inside a cluster', () => {
  test('is let in by its service account, and makes sandboxes in its own namespace', async () => {
    mount('own');
    const { names, current, where } = await load();
    expect([names, current, where]).toEqual([
      [IN_CLUSTER_CONTEXT],
      IN_CLUSTER_CONTEXT,
      'the cluster that the agent runs in',
    ]);
    const client = await clientOf();
    expect(client.access.namespace).toBe('sandboxes');
    await expect(client.call(PODS)).resolves.toMatchObject({ items: [] });
  });

  test('goes through no proxy: what is before the gateway is not before the cluster', async () => {
    mount('own');
    const access = (await load(() => 'http://127.0.0.1:1')).access(IN_CLUSTER_CONTEXT);
    onTestFinished(() => access.close());
    await expect(createKubeClient(access).call(PODS)).resolves.toMatchObject({ items: [] });
  });

  test('whose pod has no service account is told so', async () => {
    await expect(load()).rejects.toMatchObject({
      code: 'invalid_request',
      detail: 'There is no kubeconfig: set KUBECONFIG, or run the agent inside the cluster.',
    });
  });

  test('whose service account was deleted and made again is told what gives it a token of the new one', async () => {
    mount('own');
    const client = await clientOf();
    await client.call(PODS);
    api.revoke('own');
    await expect(client.call(PODS)).rejects.toMatchObject({
      httpStatus: 401,
      detail: expect.stringContaining("delete the agent's pod"),
    });
  });

  test('trusts no authority but the one that is mounted', async () => {
    mount('own');
    writeFileSync(ownFile('ca.crt'), api.authority.issue({ name: 'other' }).cert);
    await expect((await clientOf()).call(PODS)).rejects.toMatchObject({ code: 'backend_unavailable' });
  });
});

describe('a token file', () => {
  test('is read again when what it said is too old, and not before', async () => {
    mount('first');
    const client = await clientOf();
    expect(await tokenOf(client)).toBe('Bearer first');
    mount('second');
    vi.advanceTimersByTime(TOKEN_FILE_MAX_AGE_MS - 1);
    expect(await tokenOf(client)).toBe('Bearer first');
    vi.advanceTimersByTime(1);
    expect(await tokenOf(client)).toBe('Bearer second');
  });

  test('is read again at once when the server refuses the token', async () => {
    mount('early');
    const client = await clientOf();
    await client.call(PODS);
    api.revoke('early');
    mount('late');
    await expect(client.call(PODS)).resolves.toMatchObject({ items: [] });
  });

  test('that is gone for a while leaves the token in use', async () => {
    mount('kept');
    const client = await clientOf();
    await client.call(PODS);
    rmSync(ownFile('token'));
    vi.advanceTimersByTime(MINUTES_MS);
    expect(await tokenOf(client)).toBe('Bearer kept');
    writeFileSync(ownFile('token'), '\n');
    expect(await tokenOf(client)).toBe('Bearer kept');
    mount('back');
    expect(await tokenOf(client)).toBe('Bearer back');
  });
});
