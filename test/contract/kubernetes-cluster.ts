import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
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
  /** An agent's own credential with these rights in the namespace, under the context `limited`. */
  limited(rules: readonly Rule[]): Promise<LimitedAccess>;
};

/** One rule of a Role. */
export type Rule = {
  apiGroups: readonly string[];
  resources: readonly string[];
  verbs: readonly string[];
};

export type LimitedAccess = {
  readonly kubeconfig: string;
  grant(rules: readonly Rule[]): Promise<void>;
  /** The token in the kubeconfig is worth nothing any more. */
  expire(): Promise<void>;
  /** Another token, in the same file. */
  renew(): Promise<void>;
};

const ROLE = new URL('../../manifests/agent/role.yaml', import.meta.url);
/** What the manifest gives an agent. */
export const AGENT_RULES: readonly Rule[] = parseAllDocuments(readFileSync(ROLE, 'utf8'))[0]?.toJS().rules;

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
    async limited(rules) {
      let token = crypto.randomUUID();
      const own = join(folder, token);
      const write = (rules: readonly Rule[]) => fake.kubeconfig({ context: 'limited', token, rules });
      writeFileSync(own, write(rules));
      return {
        kubeconfig: own,
        grant: async (more) => void write(more),
        expire: async () => void fake.revoke(token),
        async renew() {
          token = crypto.randomUUID();
          writeFileSync(own, write(rules));
        },
      };
    },
    async [Symbol.asyncDispose]() {
      await cluster[Symbol.asyncDispose]();
      await fake[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

export async function openRealCluster(): Promise<TestCluster> {
  const folder = mkdtempSync(join(tmpdir(), 'podgate-kube-'));
  const cluster = await openCluster(REAL_KUBECONFIG ?? '', undefined);
  return {
    ...cluster,
    limited: (rules) => limitAccess(cluster, rules, folder),
    async [Symbol.asyncDispose]() {
      await cluster[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

/** A service account, its Role and a token for it. */
async function limitAccess(
  { client, namespace }: Pick<TestCluster, 'client' | 'namespace'>,
  rules: readonly Rule[],
  folder: string,
): Promise<LimitedAccess> {
  const name = `limited-${crypto.randomUUID().slice(0, 8)}`;
  const core = `/api/v1/namespaces/${namespace}/serviceaccounts`;
  const rbac = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}`;
  const apiVersion = 'rbac.authorization.k8s.io/v1';
  const metadata = { name, namespace };
  const role = { apiVersion, kind: 'Role', metadata };
  const post = <T>(path: string, body: object) => client.call<T>({ method: 'POST', path, body });
  await post(core, { apiVersion: 'v1', kind: 'ServiceAccount', metadata });
  await post(`${rbac}/roles`, { ...role, rules });
  await post(`${rbac}/rolebindings`, {
    apiVersion,
    kind: 'RoleBinding',
    metadata,
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
    subjects: [{ kind: 'ServiceAccount', name, namespace }],
  });
  const secrets = `/api/v1/namespaces/${namespace}/secrets`;
  const kubeconfig = join(folder, name);
  let bound = '';

  /** A token lives as long as the Secret that it is bound to. */
  async function renew(): Promise<void> {
    bound = `${name}-${crypto.randomUUID().slice(0, 8)}`;
    const secret = await post<{ metadata: { uid: string } }>(secrets, {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: bound, namespace },
    });
    const { status } = await post<{ status: { token: string } }>(`${core}/${name}/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        expirationSeconds: 3600,
        boundObjectRef: { apiVersion: 'v1', kind: 'Secret', name: bound, uid: secret.metadata.uid },
      },
    });
    const content = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'limited',
      clusters: [{ name: 'real', cluster: realCluster() }],
      users: [{ name, user: { token: status.token } }],
      contexts: [{ name: 'limited', context: { cluster: 'real', user: name } }],
    };
    writeFileSync(kubeconfig, JSON.stringify(content));
  }

  await renew();
  return {
    kubeconfig,
    renew,
    async expire() {
      await client.call({ method: 'DELETE', path: `${secrets}/${bound}` });
    },
    async grant(more) {
      await client.call({ method: 'PUT', path: `${rbac}/roles/${name}`, body: { ...role, rules: more } });
    },
  };
}

/** Where the first context's API server is, and whose certificate it has. */
function realCluster(): object {
  const file = resolve(REAL_KUBECONFIG?.split(delimiter)[0] ?? '');
  const config = parse(readFileSync(file, 'utf8'));
  const named = <T extends { name: string }>(all: T[], name: string) =>
    all.find((each) => each.name === name);
  const context = named<{ name: string; context: { cluster: string } }>(
    config.contexts,
    config['current-context'],
  );
  const found = named<{ name: string; cluster: Record<string, string> }>(
    config.clusters,
    context?.context.cluster ?? '',
  );
  const { 'certificate-authority': authority, ...cluster } = found?.cluster ?? {};
  if (authority === undefined) return cluster;
  return { ...cluster, 'certificate-authority': resolve(dirname(file), authority) };
}

async function openCluster(
  kubeconfig: string,
  fake: KubeApi | undefined,
): Promise<Omit<TestCluster, 'limited'>> {
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
