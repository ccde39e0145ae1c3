import { describe, test } from 'vitest';
import { describeKubernetes } from './kubernetes.ts';
import { openFakeCluster, openRealCluster, REAL_KUBECONFIG } from './kubernetes-cluster.ts';

describeKubernetes('the API server of the tests', openFakeCluster);

if (REAL_KUBECONFIG === undefined)
  describe('a real cluster', () => {
    test.skip('PODGATE_TEST_KUBECONFIG is not set: no real cluster to agree with', () => {});
  });
else describeKubernetes('a real cluster', openRealCluster);
