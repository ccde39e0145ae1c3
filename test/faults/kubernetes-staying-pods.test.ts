import { expect, test, vi } from 'vitest';
import { MAX_STAYING_PODS } from '../../agent/backends/kubernetes/staying-pods.ts';
import { openFakeCluster } from '../contract/kubernetes-cluster.ts';
import type { KubeApi } from '../fakes/kube-api/kube-api.ts';

test('an instance whose deleted pods are all kept by a finalizer makes no more of them, and goes on when they are gone', async () => {
  await using cluster = await openFakeCluster();
  const pods = (cluster.fake as KubeApi).store('pods');
  const log = vi.fn();
  const backend = await cluster.backend({ log, stayMs: 60 });
  const template = await cluster.template();
  const make = () => backend.create(template, AbortSignal.timeout(20_000));
  const sandbox = await make();
  const [made] = pods.list(cluster.namespace);
  const { labels = {} } = made?.metadata ?? {};
  const held = { deletionTimestamp: new Date().toISOString(), finalizers: ['backup.example/hold'] };
  const names = Array.from({ length: MAX_STAYING_PODS }, (_, n) => `held-${n}`);
  for (const name of names)
    pods.add({
      kind: 'Pod',
      metadata: { name, namespace: cluster.namespace, labels, ...held },
      spec: { ...made?.spec, nodeSelector: { none: 'here' } },
      status: { phase: 'Failed' },
    });
  await expect
    .poll(() => log.mock.calls.at(-1))
    .toEqual(['pods_stay', { pods: MAX_STAYING_PODS, finalizers: ['backup.example/hold'] }]);
  await expect(make()).rejects.toMatchObject({ detail: expect.stringContaining('backup.example/hold') });
  for (const name of names) pods.remove(cluster.namespace, name);
  await expect
    .poll(() =>
      make().then(
        () => true,
        () => false,
      ),
    )
    .toBe(true);
  await backend.destroy(sandbox);
});
