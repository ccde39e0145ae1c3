import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { ClusterDirectory } from '../../gateway/clusters/cluster-directory.ts';
import type { GatewayLink } from '../../gateway/link/gateway-link.ts';
import { announceCluster } from '../fakes/mock-agent.ts';

test('an instance that is away keeps the names of its clusters, and nothing else that it announced', async () => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const directory = new ClusterDirectory({
    now: () => 0,
    elapsed: () => 0,
    maxLinksPerTenant: 10,
    onFreed() {},
  });
  const agent = { tenant: 'acme', sub: 'agent', thumbprint: 't', maxInstances: null };
  const link = { agent, instance: 'instance-1', draining: false, joined: true, lastHeardMs: 0 };
  const told: WeakRef<object>[] = [];
  const announce = () => {
    const clusters = [announceCluster({ name: 'lab' }), announceCluster({ name: 'plant' })];
    told.push(...clusters.map((cluster) => new WeakRef(cluster)));
    return { grants: [], clusters };
  };
  expect(directory.join(link as unknown as GatewayLink)).toBeNull();
  expect(directory.slots(link as unknown as GatewayLink, announce())).toBeNull();
  directory.leave(link as unknown as GatewayLink);
  // What a WeakRef was made of lives to the end of its turn.
  await new Promise(setImmediate);
  collect();
  expect(told.map((cluster) => cluster.deref())).toEqual([undefined, undefined]);
  expect(directory.serving('acme', 'plant', 1_000)).toEqual(['instance-1']);
  expect(directory.serving('acme', 'elsewhere', 1_000)).toEqual([]);
});
