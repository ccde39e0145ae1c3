import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { vi } from 'vitest';
import { createKubeClient, type KubeClient } from '../../agent/backends/kubernetes/kube-client.ts';
import { loadKubeContexts } from '../../agent/backends/kubernetes/kube-config.ts';
import type { Pod } from '../../agent/backends/kubernetes/kube-objects.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { startBackendStack } from '../fakes/backend-stack.ts';
import { createKubeApi } from '../fakes/kube-api/kube-api.ts';
import { REAL_KUBECONFIG, TEST_IMAGE } from './kubernetes-cluster.ts';
import { type SessionsPlace, sessionsContract } from './sessions.ts';

// Fifty pods on a machine of two processors; a real cluster makes one or two a second.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

/** In a namespace of its own, where only what the agent makes can be. */
function onCluster(kubeconfig: string | undefined): SessionsPlace {
  let client: KubeClient | undefined;
  const namespace = `podgate-test-${Math.random().toString(36).slice(2, 10)}`;
  const pods = `/api/v1/namespaces/${namespace}/pods`;
  return {
    many: 50,
    template: {
      image: TEST_IMAGE,
      kubernetes: { requests: { cpus: 0.01, memory_mb: 16 } },
    },
    async open(templates: readonly TemplateInput[]) {
      await using opened = new AsyncDisposableStack();
      const folder = mkdtempSync(join(tmpdir(), 'podgate-sessions-'));
      opened.defer(() => rmSync(folder, { recursive: true }));
      let path = kubeconfig && resolve(kubeconfig);
      if (path === undefined) {
        const fake = opened.use(await createKubeApi());
        path = join(folder, 'kubeconfig');
        writeFileSync(path, fake.kubeconfig());
      }
      const contexts = await loadKubeContexts(path);
      client = createKubeClient(contexts.access(contexts.current));
      const metadata = { name: namespace, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } };
      await client.call({
        method: 'POST',
        path: '/api/v1/namespaces',
        body: { apiVersion: 'v1', kind: 'Namespace', metadata },
      });
      const started = await startBackendStack({
        cluster: 'lab',
        templates,
        environment: {
          EXECUTOR_BACKEND: 'kubernetes',
          KUBECONFIG: path,
          KUBE_CONTEXTS: `lab=${contexts.current}`,
          KUBERNETES_NAMESPACE: namespace,
        },
      });
      opened.defer(() => client?.access.close());
      opened.defer(() => client?.call({ method: 'DELETE', path: `/api/v1/namespaces/${namespace}` }));
      opened.defer(sandboxesGone);
      opened.use(started);
      const held = opened.move();
      return { ...started, [Symbol.asyncDispose]: () => held.disposeAsync() };
    },
    sandboxes,
  };

  /** Those that are being deleted are still there. */
  async function sandboxes(): Promise<string[]> {
    const { items } = await (client as KubeClient).call<{ items: Pod[] }>({ method: 'GET', path: pods });
    return items.map(({ metadata }) => metadata?.name ?? '');
  }

  async function sandboxesGone(): Promise<void> {
    await vi.waitFor(
      async () => {
        const left = await sandboxes();
        if (left.length > 0) throw new Error(`left: ${left}`);
      },
      { timeout: 60_000, interval: 500 },
    );
  }
}

sessionsContract('the API server of the tests', onCluster(undefined));
if (REAL_KUBECONFIG !== undefined)
  sessionsContract('a real cluster', onCluster(REAL_KUBECONFIG.split(':')[0]));
