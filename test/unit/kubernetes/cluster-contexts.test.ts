import { describe, expect, test } from 'vitest';
import { chooseContexts, IN_CLUSTER_CONTEXT } from '../../../agent/backends/kubernetes/cluster-contexts.ts';

const names = ['lab', 'kind-lab', 'admin@Prod', 'odd=name'];
const choose = (wanted: string[] | undefined, cluster?: string, current = 'lab') =>
  chooseContexts({ names, current, wanted, cluster, where: 'FILE' }).map(
    (each) => `${each.cluster} is ${each.context}`,
  );

describe('the contexts that an agent serves', () => {
  test.for([
    [undefined, undefined, ['lab is lab']],
    [undefined, 'own', ['own is lab']],
    [['kind-lab'], undefined, ['kind-lab is kind-lab']],
    [['kind-lab'], 'own', ['own is kind-lab']],
    [['lab', 'prod=admin@Prod'], 'own', ['lab is lab', 'prod is admin@Prod']],
    [
      ['*', 'prod=admin@Prod', 'odd=odd=name'],
      undefined,
      ['lab is lab', 'kind-lab is kind-lab', 'prod is admin@Prod', 'odd is odd=name'],
    ],
    [['lab', 'lab'], undefined, ['lab is lab']],
    // One that is not there costs its own cluster only.
    [['lab', 'none'], undefined, ['lab is lab', 'none is none']],
  ] as [string[] | undefined, string | undefined, string[]][])(
    '%j with PODGATE_CLUSTER %s: %j',
    ([wanted, cluster, served]) => {
      expect(choose(wanted, cluster)).toEqual(served);
    },
  );

  test.for([
    [['*'], /The context 'admin@Prod' of FILE .* Rename it: KUBE_CONTEXTS=admin-prod=admin@Prod\.$/],
    [['Big=lab'], /'lab' of FILE has a name that no cluster can have/],
    [['lab', 'lab=kind-lab'], /'lab' and 'kind-lab' of FILE are both to be the cluster 'lab'/],
    [[], /KUBE_CONTEXTS names no context of FILE/],
  ] as [string[], RegExp][])('%j stops the boot', ([wanted, sentence]) => {
    expect(() => choose(wanted)).toThrow(sentence);
  });

  test('need a choice where the kubeconfig has no current one', () => {
    expect(() => choose(undefined, undefined, '')).toThrow(
      /FILE has no current context: set KUBE_CONTEXTS to one of 'lab', 'kind-lab', 'admin@Prod', 'odd=name', or to \*\.$/,
    );
  });

  test('need a name from PODGATE_CLUSTER inside a cluster', () => {
    expect(() => choose(undefined, undefined, IN_CLUSTER_CONTEXT)).toThrow(/PODGATE_CLUSTER is not set/);
    expect(choose(undefined, 'own', IN_CLUSTER_CONTEXT)).toEqual([`own is ${IN_CLUSTER_CONTEXT}`]);
  });
});
