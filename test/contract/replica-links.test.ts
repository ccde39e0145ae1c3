import { expect, test } from 'vitest';
import { createMemoryReplicas, type MemoryReplica } from '../../gateway/replicas/memory-replicas.ts';
import { type LinkChannel, MAX_CHANNELS } from '../../gateway/replicas/replica-links.ts';
import { describeReplicaLinks } from './replica-links.ts';

describeReplicaLinks('memory', async () => {
  const replicas = createMemoryReplicas();
  return {
    join: async () => replicas.join(),
    kill: async (replica) => (replica as MemoryReplica)[Symbol.dispose](),
  };
});

test('a replica takes part in so many channels at most, and in others again as they end', async () => {
  const replicas = createMemoryReplicas();
  const [asking, linked] = [replicas.join(), replicas.join()];
  const address = { tenant: 'acme', instance: 'instance-1' };
  linked.offer(address, () => {});
  const open = () => asking.open(address, new AbortController().signal);
  const channels: (LinkChannel | undefined)[] = [];
  for (let index = 0; index < MAX_CHANNELS; index += 1) channels.push(await open());
  expect(channels.every((channel) => channel !== undefined)).toBe(true);
  expect(await open()).toBeUndefined();
  channels[0]?.close();
  expect(await open()).toBeDefined();
});
