import { describe, test } from 'vitest';
import { openFakeCluster, openRealCluster, REAL_KUBECONFIG } from './kubernetes-cluster.ts';
import { describeRights } from './kubernetes-rights.ts';

describeRights('the API server of the tests', openFakeCluster);

if (REAL_KUBECONFIG === undefined)
  describe('a real cluster', () => {
    test.skip('PODGATE_TEST_KUBECONFIG is not set: no real cluster to agree with', () => {});
  });
else describeRights('a real cluster', openRealCluster);
