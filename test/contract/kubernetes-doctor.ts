import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Pod } from '../../agent/backends/kubernetes/kube-objects.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { NO_FAULTS, NODE_IP } from '../fakes/kube-api/fake-kubelet.ts';
import type { NodeFaults } from '../fakes/kube-api/pod-process.ts';
import { type Ended, podgate } from '../fakes/podgate-command.ts';
import { AGENT_RULES, REAL_KUBECONFIG, type Rule, type TestCluster } from './kubernetes-cluster.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

/** `podgate agent doctor`, whether the cluster is real. */
export function describeDoctor(name: string, open: () => Promise<TestCluster>): void {
  describe(`${name}: podgate agent doctor`, () => {
    let cluster: TestCluster;
    let folder: string;
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'podgate-doctor-'));
      cluster = await open();
    });
    afterAll(async () => {
      await cluster?.[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    });

    async function doctor(
      input: Partial<TemplateInput> = {},
      { rules = AGENT_RULES, env = {} }: { rules?: readonly Rule[]; env?: Record<string, string> } = {},
    ): Promise<Ended> {
      const { name, image, resources, kubernetes } = await cluster.template();
      const file = join(folder, `${crypto.randomUUID()}.yaml`);
      const template = { name, image, resources, kubernetes, pool: { min: 1, max: 2 }, ...input };
      writeFileSync(file, JSON.stringify({ templates: [template] }));
      const { kubeconfig } = await cluster.limited(rules);
      return podgate(['agent', 'doctor'], {
        env: {
          KUBECONFIG: kubeconfig,
          KUBERNETES_NAMESPACE: cluster.namespace,
          PODGATE_TEMPLATES: file,
          PODGATE_CANARY_TARGETS: 'none',
          ...env,
        },
      });
    }

    const kinds = (kind: string) => `/api/v1/namespaces/${cluster.namespace}/${kind}`;
    const leftPods = async () => {
      const { items } = await cluster.client.call<{ items: Pod[] }>({ method: 'GET', path: kinds('pods') });
      return items.filter(({ metadata }) => metadata?.deletionTimestamp === undefined);
    };

    test('finds nothing that fails with the rules of the manifest, and leaves nothing behind', async () => {
      const { status, stdout, stderr } = await doctor();
      process.stderr.write(stdout);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      for (const line of [
        /^cluster limited: context 'limited' of \/\S+$/m,
        /^ {2}ok +api server +Kubernetes v1\.\d+\.\S+, answers in \d+ ms$/m,
        /^ {2}ok +clock +\d\.\d s apart/m,
        /^ {2}ok +rights +pods in \S+: create, get, list, watch, delete$/m,
        /^ {2}ok +rights +pods\/exec in \S+: create, get$/m,
        /^ {2}ok +rights +leases in \S+: create, get, list, update, delete$/m,
        /^ {2}\? +quota +The agent may not read quotas, and need not/m,
        /^ {2}ok +image +default: \S+ runs, after \d+\.\d s$/m,
        /^ {2}ok +exec +v[45]\.channel\.k8s\.io/m,
        /^ {2}ok +runner +Python 3\.\d+\.\d+; programs are confined by seccomp/m,
        /^ {2}((ok|WARN) +pid limit +the node|\? +pid limit +none below 1024 threads) /m,
        /^ {2}ok +isolation +default: all \d+ promises hold$/m,
        /^ {2}(ok|WARN|\?) +network policy /m,
        /^Nothing fails\.$/m,
      ])
        expect(stdout).toMatch(line);
      expect(await leftPods()).toEqual([]);
      const leases = await cluster.client.call<{ items: unknown[] }>({
        method: 'GET',
        path: `/apis/coordination.k8s.io/v1/namespaces/${cluster.namespace}/leases`,
      });
      expect(leases.items).toEqual([]);
    });

    test.for(
      AGENT_RULES.flatMap(({ resources, verbs, apiGroups }) =>
        verbs.map((verb) => ({ verb, resource: resources[0] ?? '', group: apiGroups[0] ?? '' })),
      ).filter(({ verb, resource }) => resource !== 'pods/exec' || verb === 'get'),
    )('names the rule to add for $verb $resource, and makes nothing', async ({ verb, resource, group }) => {
      const rules = AGENT_RULES.map((rule) =>
        rule.resources.includes(resource)
          ? { ...rule, verbs: rule.verbs.filter((each) => each !== verb) }
          : rule,
      );
      const { status, stdout } = await doctor({}, { rules });
      expect(status).toBe(1);
      expect(stdout).toMatch(
        new RegExp(
          `^ {2}FAIL +rights +The agent may not ${verb} ${resource}.* in ${cluster.namespace}\\. Add to its Role:\\n` +
            ` +- apiGroups: \\["${group}"\\]\\n +resources: \\[${resource}\\]\\n +verbs: \\[${verb}\\]$`,
          'm',
        ),
      );
      expect(stdout).toMatch(/^1 thing fails\.$/m);
      expect(stdout).not.toMatch(/ image /);
    });

    test('says so once of a namespace in which the agent may do nothing, with all rules', async () => {
      const { status, stdout } = await doctor({}, { rules: [] });
      expect(status).toBe(1);
      expect(stdout).toMatch(
        /^ {2}FAIL +rights +The agent may do nothing in namespace \S+\. If that is the right one, /m,
      );
      expect(stdout).toMatch(/ resources: \[pods\]\n +verbs: \[create, get, list, watch, delete\]\n/);
      expect(stdout).toMatch(/^1 thing fails\.$/m);
    });

    test('names a namespace that is not there', async () => {
      const file = join(folder, 'all-rights');
      if (cluster.fake) writeFileSync(file, cluster.fake.kubeconfig());
      const KUBECONFIG = cluster.fake ? file : REAL_KUBECONFIG;
      const KUBE_CONTEXTS = cluster.client.access.context;
      const KUBERNETES_NAMESPACE = 'podgate-nowhere';
      const env = { KUBECONFIG: KUBECONFIG ?? '', KUBE_CONTEXTS, KUBERNETES_NAMESPACE };
      const { status, stdout } = await doctor({}, { env });
      expect(stdout).toMatch(
        /^ {2}FAIL +namespace +Namespace podgate-nowhere does not exist\.\n +Make it \(kubectl create namespace podgate-nowhere\)/m,
      );
      expect(status).toBe(1);
    });

    test('names a credential that the cluster does not take', async () => {
      const access = await cluster.limited(AGENT_RULES);
      await access.expire();
      const { status, stdout } = await doctor({}, { env: { KUBECONFIG: access.kubeconfig } });
      expect(stdout).toMatch(
        /^ {2}FAIL +credential +The cluster does not accept the agent's credentials\.$/m,
      );
      expect(status).toBe(1);
    });

    test('says what a quota is short of, where it may read it', async () => {
      const limit = async (name: string, spec: object) => {
        const body = { apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name }, spec };
        await cluster.client.call({ method: 'POST', path: kinds('resourcequotas'), body });
        onTestFinished(async () => {
          await cluster.client.call({ method: 'DELETE', path: `${kinds('resourcequotas')}/${name}` });
        });
      };
      await limit('tight', { hard: { pods: '5', 'limits.memory': '100Mi' } });
      await limit('others', { hard: { pods: '0' }, scopes: ['BestEffort'] });
      const rule = { apiGroups: [''], resources: ['resourcequotas'], verbs: ['list'] };
      const { stdout } = await doctor({}, { rules: [...AGENT_RULES, rule] });
      expect(stdout).toMatch(/^ {2}WARN +quota +The pools cannot fill\. Raise it, or lower pool\.max:$/m);
      expect(stdout).toMatch(/tight: pods is 5 \(\d+ used\), pools and canaries want up to 8/);
      expect(stdout).not.toContain('others:');
      expect(stdout).toMatch(
        /tight: limits\.memory is 100Mi \(\S+ used\), pools and canaries want up to \d+Mi/,
      );
    });

    test('says what a template preloads that its image has not', async () => {
      const good = await doctor({ preload: ['json'] });
      expect(good.stdout).toMatch(/^ {2}ok +preload +default: json$/m);
      const { status, stdout } = await doctor({ preload: ['json', 'no_such_module'] });
      expect(status).toBe(0);
      expect(stdout).toMatch(/^ {2}WARN +preload +'default' preloads what its image cannot import; .*:$/m);
      expect(stdout).toMatch(/^ +no_such_module: ModuleNotFoundError: No module named 'no_such_module'$/m);
    });

    const NOT_HERE = 'what a real cluster refuses is its own: test/cluster/isolation.test.ts';
    const env = { PODGATE_CANARY_TARGETS: 'dns=127.0.0.4:5353,node=node:10250' };
    function fail(faults: Partial<NodeFaults>): void {
      if (cluster.fake) cluster.fake.kubelet.faults = { ...NO_FAULTS, ...faults };
      onTestFinished(() => {
        if (cluster.fake) cluster.fake.kubelet.faults = { ...NO_FAULTS };
      });
    }

    test('says where the network refuses by itself', async (context) => {
      context.skip(!cluster.fake, NOT_HERE);
      const { status, stdout } = await doctor({}, { env });
      expect(stdout).toMatch(/^ {2}ok +network policy +the cluster's network refuses by itself: dns, node/m);
      expect(status).toBe(0);
    });

    test.for([
      ['warns of', 'WARN', 0, ['seccomp']],
      ['fails for', 'FAIL', 1, ['seccomp', 'network_policy']],
    ] as const)('%s a network that refuses nothing: %s', async ([, state, exit, require], context) => {
      context.skip(!cluster.fake, NOT_HERE);
      fail({ reachable: ['127.0.0.4:5353', `${NODE_IP}:10250`] });
      const { status, stdout } = await doctor({ require: [...require] }, { env });
      expect(stdout).toMatch(
        new RegExp(
          `^ {2}${state} +network policy +the cluster's network refuses nothing by itself.*\\n +policy\\.dns: broken\\. 127\\.0\\.0\\.4:5353 was reached\\.$`,
          'm',
        ),
      );
      expect(status).toBe(exit);
    });

    test('fails where a token is in the sandbox', async (context) => {
      context.skip(!cluster.fake, NOT_HERE);
      fail({ token: true });
      const { status, stdout } = await doctor();
      expect(stdout).toMatch(
        /^ {2}FAIL +isolation +default: 1 of \d+ promises .*\n +files\.token: broken\./m,
      );
      expect(status).toBe(1);
    });

    test('says what keeps it from the cluster at all', async () => {
      const { status, stdout } = await doctor({}, { env: { KUBE_CONTEXTS: 'limited,gone' } });
      expect(status).toBe(1);
      expect(stdout).toMatch(
        /^cluster gone: .*\n {2}FAIL +context +\S+ has no context 'gone': it has 'limited'\.$/m,
      );
      const [path, fifo] = [join(folder, 'bad-contexts'), join(folder, 'fifo')];
      execFileSync('mkfifo', [fifo]);
      const here = { server: 'https://127.0.0.1:1' };
      const bad: [name: string, cluster: object, words: string][] = [
        ['folder', { ...here, 'certificate-authority': folder }, `names '${folder}', which is no file.`],
        ['fifo', { ...here, 'certificate-authority': fifo }, `names '${fifo}', which is no file.`],
        [
          'plain',
          { server: 'http://192.0.2.1' },
          'has a server without TLS, to which no credential is sent: use https.',
        ],
      ];
      const config = {
        clusters: bad.map(([name, cluster]) => ({ name, cluster })),
        users: [{ name: 'u', user: { token: 't' } }],
        contexts: bad.map(([name]) => ({ name, context: { cluster: name, user: 'u' } })),
      };
      writeFileSync(path, JSON.stringify(config));
      const refused = await doctor({}, { env: { KUBECONFIG: path, KUBE_CONTEXTS: '*' } });
      expect([refused.status, refused.stderr]).toEqual([1, '']);
      for (const [name, , words] of bad)
        expect(refused.stdout).toContain(`FAIL  context         Context '${name}' of ${path} ${words}`);
      const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh' };
      const asks = { ...exec, args: ['-c', 'echo "not logged in" >&2; exit 1'] };
      const contexts = [{ name: 'plugin', context: { cluster: 'plugin', user: 'u' } }];
      const clusters = [{ name: 'plugin', cluster: here }];
      writeFileSync(
        path,
        JSON.stringify({ clusters, users: [{ name: 'u', user: { exec: asks } }], contexts }),
      );
      const unknown = await doctor({}, { env: { KUBECONFIG: path, KUBE_CONTEXTS: '*' } });
      expect(unknown.stdout).toMatch(
        /FAIL +api server +No credential can be had for .*: its plugin 'sh' gave none\.\n +not logged in\n/,
      );
      const missing = await podgate(['agent', 'doctor'], { env: { KUBECONFIG: '/nowhere/kubeconfig' } });
      expect(missing.status).not.toBe(0);
      expect(missing.stderr).toContain("The kubeconfig '/nowhere/kubeconfig' cannot be read (ENOENT).");
      const local = await podgate(['agent', 'doctor'], { env: { EXECUTOR_BACKEND: 'local' } });
      expect([local.status, local.stderr]).toEqual([
        2,
        expect.stringContaining('EXECUTOR_BACKEND=kubernetes'),
      ]);
    });

    test('fails for an image that does not exist', async () => {
      const { status, stdout } = await doctor({ image: 'registry.invalid/none:1' });
      expect(status).toBe(1);
      expect(stdout).toMatch(
        /^ {2}FAIL +image +default: .* \(image_error\)\n +It is registry\.invalid\/none:1\.\n +(ErrImagePull|ImagePullBackOff): /m,
      );
      expect(await leftPods()).toEqual([]);
    });

    test('fails with the scheduler’s words where every node is kept away', async () => {
      const { kubernetes } = await cluster.template();
      const { status, stdout } = await doctor({
        kubernetes: { ...kubernetes, node_selector: { 'podgate.example/none': 'here' } },
      });
      expect(status).toBe(1);
      expect(stdout).toMatch(/^ {2}FAIL +room +default: .* \(unschedulable\)\n +Unschedulable: 0\//m);
      expect(await leftPods()).toEqual([]);
    });
  });
}
