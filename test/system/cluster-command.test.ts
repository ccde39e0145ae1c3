import { describe, expect, onTestFinished, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type ClusterTools, createClusterTools, type ToolName } from '../fakes/cluster-tools.ts';
import { type Ended, podgate } from '../fakes/podgate-command.ts';

const ALL: ToolName[] = ['kind', 'minikube', 'kubectl'];
const exports = (context: string, namespace = 'podgate-sandboxes') =>
  `export KUBE_CONTEXTS=${context}\nexport KUBERNETES_NAMESPACE=${namespace}\n`;
const deletion = (namespace = 'podgate-sandboxes') =>
  `delete namespace -l app.kubernetes.io/part-of=podgate --field-selector metadata.name=${namespace} --timeout=120s`;

async function tools(installed: ToolName[] = ALL): Promise<ClusterTools> {
  const made = await createClusterTools(installed);
  onTestFinished(made.remove);
  return made;
}

function cluster(stand: ClusterTools, args: string[], env: Record<string, string> = {}): Promise<Ended> {
  return podgate(['cluster', ...args], { env: { PATH: stand.path, ...env } });
}

const lines = async (stand: ClusterTools) =>
  (await stand.calls()).map(({ tool, args }) => [tool, ...args].join(' '));

describe('podgate cluster up', () => {
  test('makes a kind cluster, waits for its nodes, prepares the namespace, and prints what an agent needs', async () => {
    const stand = await tools();
    const { status, stdout } = await cluster(stand, ['up'], { KUBECONFIG: '/some/kubeconfig' });
    expect([status, stdout]).toEqual([0, exports('kind-podgate')]);
    expect(await lines(stand)).toEqual([
      'kubectl version --client',
      'kind get clusters',
      'kind create cluster --name podgate --wait 180s',
      'kubectl --context kind-podgate wait --for=condition=Ready nodes --all --timeout=180s',
      expect.stringMatching(/^kubectl --context kind-podgate get namespace podgate-sandboxes /),
      'kubectl --context kind-podgate apply -f -',
    ]);
    const calls = await stand.calls();
    expect(new Set(calls.map(({ kubeconfig }) => kubeconfig))).toEqual(new Set(['/some/kubeconfig']));
    const applied = parseAllDocuments(calls.at(-1)?.stdin ?? '').map((each) => each.toJS());
    expect(applied.map(({ kind }) => kind)).toEqual([
      'Namespace',
      'NetworkPolicy',
      'ResourceQuota',
      'ResourceQuota',
      'LimitRange',
    ]);
    expect(applied[0].metadata.labels).toMatchObject({ 'pod-security.kubernetes.io/enforce': 'restricted' });
  });

  test('takes the cluster that is there, and only writes its context', async () => {
    const stand = await tools();
    await stand.setClusters('kind', ['other', 'podgate']);
    expect(await cluster(stand, ['up'])).toMatchObject({ status: 0, stdout: exports('kind-podgate') });
    const said = await lines(stand);
    expect(said).toContain('kind export kubeconfig --name podgate');
    expect(said.join('\n')).not.toContain('create');
  });

  test.for([[[]], [['lab']]])(
    'starts a minikube cluster of the name that is asked for, with %j there',
    async ([names]) => {
      const stand = await tools();
      await stand.setClusters('minikube', names ?? []);
      const args = ['up', '--provider', 'minikube', '--name', 'lab', '--load', 'own:1', '--load', 'own:2'];
      expect(await cluster(stand, args)).toMatchObject({ status: 0, stdout: exports('lab') });
      expect((await lines(stand)).slice(1, 5)).toEqual([
        'minikube profile list --output json',
        'minikube start --profile lab --wait all --interactive=false',
        'minikube image load own:1 --profile lab',
        'minikube image load own:2 --profile lab',
      ]);
    },
  );

  test('loads images into kind by its own name for it', async () => {
    const stand = await tools();
    expect(await cluster(stand, ['up', '--load', 'own:1'])).toMatchObject({ status: 0 });
    expect(await lines(stand)).toContain('kind load docker-image own:1 --name podgate');
  });

  test('prepares a cluster that is there already, and makes none', async () => {
    const stand = await tools();
    const given = { PODGATE_K8S_LOCAL: 'false', PODGATE_K8S_CONTEXT: 'far', KUBERNETES_NAMESPACE: 'mine' };
    expect(await cluster(stand, ['up'], given)).toMatchObject({ status: 0, stdout: exports('far', 'mine') });
    expect((await stand.calls()).filter(({ tool }) => tool !== 'kubectl')).toEqual([]);
    const current = await cluster(stand, ['up'], { PODGATE_K8S_LOCAL: 'false' });
    expect(current).toMatchObject({ status: 0, stdout: exports('the-current-one') });
  });

  test('takes a namespace that was made for sandboxes, and touches nobody else’s', async () => {
    const stand = await tools();
    const given = { PODGATE_K8S_LOCAL: 'false', PODGATE_K8S_CONTEXT: 'far', KUBERNETES_NAMESPACE: 'mine' };
    await stand.setNamespace('mine=podgate');
    expect(await cluster(stand, ['up'], given)).toMatchObject({ status: 0 });
    for (const owner of ['', 'argocd']) {
      await stand.setNamespace(`mine=${owner}`);
      const { status, stdout, stderr } = await cluster(stand, ['up'], given);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toContain("the namespace 'mine' is there already and is not Podgate's");
      expect((await lines(stand)).at(-1)).toContain('get namespace mine');
    }
  });

  test('gives a context that no cluster can be called after a name that fits', async () => {
    const given = { PODGATE_K8S_LOCAL: 'false', PODGATE_K8S_CONTEXT: "Tom's EKS" };
    const { stdout } = await cluster(await tools(), ['up'], given);
    expect(stdout).toContain(`export KUBE_CONTEXTS='podgate=Tom'\\''s EKS'\n`);
  });

  test('reads the names that livecodebench has for the same', async () => {
    const stand = await tools();
    const given = { LIVECODEBENCH_K8S_LOCAL: 'true', LIVECODEBENCH_K8S_PROVIDER: 'minikube' };
    expect(await cluster(stand, ['up'], given)).toMatchObject({ status: 0, stdout: exports('podgate') });
    const remote = { LIVECODEBENCH_K8S_LOCAL: 'false', LIVECODEBENCH_K8S_CONTEXT: 'production-cluster' };
    expect(await cluster(stand, ['up'], remote)).toMatchObject({ stdout: exports('production-cluster') });
  });

  test('leaves it at the first tool that fails, with its words and its call', async () => {
    const stand = await tools();
    await stand.breakCall('kind create');
    const { status, stdout, stderr } = await cluster(stand, ['up']);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toContain('ERROR: it is broken');
    expect(stderr).toMatch(/'kind create cluster --name podgate --wait 180s' ended with status 1\n$/);
    expect((await lines(stand)).at(-1)).toMatch(/^kind create/);
  });
});

describe('podgate cluster down', () => {
  test('deletes the namespace, by name and by label, and keeps the cluster', async () => {
    const stand = await tools();
    await stand.setClusters('kind', ['podgate']);
    const { status, stdout, stderr } = await cluster(stand, ['down']);
    expect([status, stdout]).toEqual([0, '']);
    expect(stderr).toContain("'podgate cluster down --delete'");
    expect(await lines(stand)).toEqual(['kind get clusters', `kubectl --context kind-podgate ${deletion()}`]);
  });

  test.for([
    [['--delete'], {}],
    [[], { DELETE_CLUSTER_ON_CLEANUP: '1' }],
    [[], { PODGATE_DELETE_CLUSTER_ON_CLEANUP: 'no matter what' }],
  ] as [string[], Record<string, string>][])(
    'deletes the cluster when it is told: %j %j',
    async ([args, env]) => {
      const stand = await tools();
      await stand.setClusters('kind', ['podgate']);
      expect(await cluster(stand, ['down', ...args], env)).toMatchObject({ status: 0 });
      expect((await lines(stand)).at(-1)).toBe('kind delete cluster --name podgate');
      await stand.setClusters('minikube', ['podgate']);
      const other = { ...env, PODGATE_K8S_PROVIDER: 'minikube' };
      expect(await cluster(stand, ['down', ...args], other)).toMatchObject({ status: 0 });
      expect((await lines(stand)).at(-1)).toBe('minikube delete --profile podgate');
    },
  );

  test('has nothing to do where there is no such cluster, and touches no other', async () => {
    const stand = await tools();
    await stand.setClusters('kind', ['podgate-2', 'other']);
    const { status, stderr } = await cluster(stand, ['down', '--delete']);
    expect([status, stderr]).toEqual([0, "kind has no cluster 'podgate'\n"]);
    expect(await lines(stand)).toEqual(['kind get clusters']);
  });

  test('calls no cluster gone of which kind could not tell', async () => {
    const stand = await tools();
    await stand.setClusters('kind', ['podgate']);
    await stand.breakCall('kind get clusters');
    for (const args of [['down'], ['down', '--delete'], ['up']]) {
      const { status, stdout, stderr } = await cluster(stand, args);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/ERROR: it is broken\n.*'kind get clusters' ended with status 1\n$/);
    }
  });

  test('has nothing to do where minikube, which fails without a profile, has none', async () => {
    const stand = await tools();
    const { status, stderr } = await cluster(stand, ['down', '--provider', 'minikube']);
    expect([status, stderr]).toEqual([0, "minikube has no cluster 'podgate'\n"]);
  });

  test('never deletes a cluster that it did not make', async () => {
    const stand = await tools();
    const given = { PODGATE_K8S_LOCAL: 'false', PODGATE_K8S_CONTEXT: 'far', KUBERNETES_NAMESPACE: 'mine' };
    expect(await cluster(stand, ['down', '--delete'], given)).toMatchObject({ status: 0 });
    expect(await lines(stand)).toEqual([`kubectl --context far ${deletion('mine')}`]);
  });
});

describe('podgate cluster says', () => {
  test.for([
    [
      ['minikube', 'kubectl'],
      ['up'],
      /kind is not on the PATH: see https:\/\/kind\.sigs\.k8s\.io\/\S+, or use --provider minikube/,
    ],
    [
      ['kind', 'kubectl'],
      ['up', '--provider', 'minikube'],
      /minikube is not on the PATH: see https:\/\/minikube\S+, or use --provider kind/,
    ],
    [['kind'], ['up'], /kubectl is not on the PATH: see https:\/\/kubernetes\.io\S+/],
    [['kubectl'], ['down'], /kind is not on the PATH/],
  ] as [ToolName[], string[], RegExp][])(
    'with %j what to install for %j',
    async ([installed, args, sentence]) => {
      const { status, stdout, stderr } = await cluster(await tools(installed), args);
      expect([status, stdout]).toEqual([2, '']);
      expect(stderr).toMatch(sentence);
    },
  );

  test.for([
    [['up', '--name', 'Not A Name'], {}, /'Not A Name' cannot be a cluster's name: use 1 to 58/],
    [['up', '--name', 'a'.repeat(59)], {}, /use 1 to 58/],
    [['up', '--name', '-x'], {}, /--name/],
    [['up', '--provider', 'k3d'], {}, /no provider 'k3d': use kind or minikube/],
    [
      ['up'],
      { PODGATE_K8S_PROVIDER: 'k3d' },
      /PODGATE_K8S_PROVIDER: 'k3d' is not accepted: use kind or minikube/,
    ],
    [
      ['up'],
      { LIVECODEBENCH_K8S_LOCAL: 'yes' },
      /LIVECODEBENCH_K8S_LOCAL: 'yes' is not accepted: use true or false/,
    ],
    [['up'], { KUBERNETES_NAMESPACE: 'No' }, /'No' cannot be a namespace/],
    [['up', '--load', 'x'], { PODGATE_K8S_LOCAL: 'false' }, /--load is for clusters of this machine/],
    [['up', '--delete'], {}, /--delete is for podgate cluster down/],
    [['down', '--load', 'x'], {}, /--load is for podgate cluster up/],
    [['sideways'], {}, /no 'cluster sideways': use up or down/],
  ] as [string[], Record<string, string>, RegExp][])(
    'what is wrong with %j %j',
    async ([args, env, sentence]) => {
      const stand = await tools();
      const { status, stderr } = await cluster(stand, args, env);
      expect(status).not.toBe(0);
      expect(stderr).toMatch(sentence);
      expect((await lines(stand)).filter((line) => !line.startsWith('kubectl version'))).toEqual([]);
    },
  );

  test('nothing wrong with a name of 58 characters', async () => {
    const name = 'a'.repeat(58);
    expect(await cluster(await tools(), ['up', '--name', name])).toMatchObject({
      stdout: exports(`kind-${name}`),
    });
  });
});
