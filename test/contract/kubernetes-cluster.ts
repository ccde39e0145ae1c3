import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createKubeClient, type KubeClient } from '../../agent/backends/kubernetes/kube-client.ts';
import { loadKubeContexts } from '../../agent/backends/kubernetes/kube-config.ts';
import {
  createKubernetesBackend,
  type KubernetesBackend,
  type KubernetesBackendDeps,
} from '../../agent/backends/kubernetes/kubernetes-backend.ts';
import { parseTemplate, type Template, type TemplateInput } from '../../shared/template.ts';
import { createKubeApi, type KubeApi } from '../fakes/kube-api/kube-api.ts';
import { testClock } from '../fakes/test-clock.ts';

/** A cluster that tests may make sandboxes in, in a namespace of their own. */
export type TestCluster = AsyncDisposable & {
  readonly client: KubeClient;
  readonly namespace: string;
  /** The server's inside, where it is the fake. */
  readonly fake: KubeApi | undefined;
  template(input?: Partial<TemplateInput>): Promise<Template>;
  /** A backend of an instance of its own; closed with the cluster. */
  backend(options?: Partial<KubernetesBackendDeps>): Promise<KubernetesBackend>;
};

/** The image that tests run on a real cluster: any with python3, which the cluster can have. */
export const TEST_IMAGE = process.env.PODGATE_TEST_IMAGE ?? 'docker.io/library/python:lab';
export const REAL_KUBECONFIG = process.env.PODGATE_TEST_KUBECONFIG;

export async function openFakeCluster(): Promise<TestCluster> {
  const fake = await createKubeApi({ bookmarkMs: 200 });
  const folder = mkdtempSync(join(tmpdir(), 'podgate-kube-'));
  const path = join(folder, 'kubeconfig');
  writeFileSync(path, fake.kubeconfig());
  const cluster = await openCluster(path, fake);
  return {
    ...cluster,
    async [Symbol.asyncDispose]() {
      await cluster[Symbol.asyncDispose]();
      await fake[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

export function openRealCluster(): Promise<TestCluster> {
  return openCluster(REAL_KUBECONFIG ?? '', undefined);
}

async function openCluster(kubeconfig: string, fake: KubeApi | undefined): Promise<TestCluster> {
  const contexts = await loadKubeContexts(kubeconfig);
  const connect = () => createKubeClient(contexts.access(contexts.current));
  const client = connect();
  const namespace = `podgate-test-${Math.random().toString(36).slice(2, 10)}`;
  const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  await client.call({
    method: 'POST',
    path: '/api/v1/namespaces',
    body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels } },
  });
  const backends: KubernetesBackend[] = [];
  let instances = 0;
  return {
    client,
    namespace,
    fake,
    template: (input = {}) =>
      parseTemplate({
        name: 'default',
        image: TEST_IMAGE,
        resources: { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpus: 0.5 },
        kubernetes: { requests: { cpus: 0.01, memory_mb: 32 } },
        ...input,
      }),
    async backend(options = {}) {
      instances += 1;
      const backend = await createKubernetesBackend({
        client: connect(),
        namespace,
        installation: 'test',
        instance: `instance-${instances}-${Math.random().toString(36).slice(2, 8)}`,
        clock: testClock,
        random: Math.random,
        log: () => {},
        ...options,
      });
      backends.push(backend);
      return backend;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(backends.map((backend) => backend.close()));
      await client.call({ method: 'DELETE', path: `/api/v1/namespaces/${namespace}` });
      client.access.close();
    },
  };
}
