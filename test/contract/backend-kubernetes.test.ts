import { afterAll, vi } from 'vitest';
import { backendContract } from './backend.ts';
import {
  openFakeCluster,
  openRealCluster,
  REAL_KUBECONFIG,
  TEST_IMAGE,
  type TestCluster,
} from './kubernetes-cluster.ts';

// A real cluster takes seconds to start a pod.
if (REAL_KUBECONFIG !== undefined) vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const TEMPLATE = {
  image: TEST_IMAGE,
  kubernetes: { requests: { cpus: 0.01, memory_mb: 32 } },
};

function contract(name: string, open: () => Promise<TestCluster>, onThisMachine: boolean): void {
  let opened: Promise<TestCluster> | undefined;
  backendContract(
    name,
    async () => {
      opened ??= open();
      // Each backend is an installation of its own: what one makes, the other does not list.
      return (await opened).backend({ installation: `contract-${crypto.randomUUID()}` });
    },
    {
      template: TEMPLATE,
      onThisMachine,
      noDevices: onThisMachine,
      ownProcessor: !onThisMachine,
      imageRoot: true,
      endlessFiles: true,
    },
  );
  afterAll(async () => {
    await (await opened)?.[Symbol.asyncDispose]();
  });
}

contract('the Kubernetes backend on the API server of the tests', openFakeCluster, true);
if (REAL_KUBECONFIG !== undefined)
  contract('the Kubernetes backend on a real cluster', openRealCluster, false);
