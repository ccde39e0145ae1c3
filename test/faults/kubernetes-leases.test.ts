import { expect, onTestFinished, test } from 'vitest';
import { openFakeCluster } from '../contract/kubernetes-cluster.ts';
import type { KubeApi } from '../fakes/kube-api/kube-api.ts';
import type { KubeObject } from '../fakes/kube-api/object-store.ts';

test('an instance whose Lease lost its labels, or its times, gives them back: others find it by them', async () => {
  const cluster = await openFakeCluster();
  onTestFinished(() => cluster[Symbol.asyncDispose]());
  const leases = (cluster.fake as KubeApi).store('leases');
  await cluster.backend({ renewMs: 50 });
  const find = () => leases.list(cluster.namespace)[0] as KubeObject;
  const { metadata, spec } = find();
  leases.put({
    ...find(),
    metadata: { ...metadata, labels: { kept: 'yes' } },
    spec: { ...spec, leaseDurationSeconds: 0, holderIdentity: 'somebody' },
  });
  await expect.poll(() => find().metadata.labels).toEqual({ ...metadata.labels, kept: 'yes' });
  const { leaseDurationSeconds, holderIdentity } = spec;
  expect(find().spec).toMatchObject({ leaseDurationSeconds, holderIdentity });
});
