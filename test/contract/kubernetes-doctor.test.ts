import { describe, test } from 'vitest';
import { openFakeCluster, openRealCluster, REAL_KUBECONFIG } from './kubernetes-cluster.ts';
import { describeDoctor } from './kubernetes-doctor.ts';

describeDoctor('the API server of the tests', openFakeCluster);

if (REAL_KUBECONFIG === undefined)
  describe('a real cluster', () => {
    test.skip('PODGATE_TEST_KUBECONFIG is not set: no real cluster to agree with', () => {});
  });
else describeDoctor('a real cluster', openRealCluster);
