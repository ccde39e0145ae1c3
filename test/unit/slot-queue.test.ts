import { describe, expect, test } from 'vitest';
import type { Caller } from '../../gateway/auth/caller.ts';
import { ClusterDirectory } from '../../gateway/clusters/cluster-directory.ts';
import { SlotQueue, type SlotRequest } from '../../gateway/queue/slot-queue.ts';
import { MAX_QUEUE, MAX_QUEUE_PER_HOLDER } from '../../shared/limits.ts';

/** A queue of a gateway without agents: everything waits. */
function create() {
  const onFreed = () => {};
  const directory = new ClusterDirectory({ now: () => 0, elapsed: () => 0, maxLinksPerTenant: 10, onFreed });
  const queue = new SlotQueue(directory, { setTimeout: () => undefined, clearTimeout() {} });
  const wait = (tenant: string, sub: string, at: 'end' | 'front' = 'end') => {
    const caller = { tenant, holder: `${tenant}/${sub}`, clusters: null, templates: null };
    const wanted = {
      caller: caller as unknown as Caller,
      cluster: 'lab',
      template: 'default',
      language: null,
    };
    const none: SlotRequest['refused'] = new Set();
    return queue.request({ wanted, refused: none, avoided: none, held: undefined, placed() {} }, at);
  };
  const fill = (tenant: string, sub: string, many = MAX_QUEUE_PER_HOLDER) =>
    Array.from({ length: many }, () => wait(tenant, sub));
  return { queue, wait, fill };
}

const RATE_LIMITED = expect.objectContaining({ code: 'rate_limited', retryAfterMs: 1_000 });
const AT_CAPACITY = expect.objectContaining({ code: 'at_capacity', retryAfterMs: 1_000 });

describe('executions that wait for a slot', () => {
  test('are as many of one key’s holder as it may have, and one more when one has left', () => {
    const { queue, wait, fill } = create();
    const [leave] = fill('acme', 'greedy');
    expect(() => wait('acme', 'greedy')).toThrow(RATE_LIMITED);
    wait('acme', 'modest');
    leave?.();
    // Whoever waits no longer leaves once.
    leave?.();
    wait('acme', 'greedy');
    expect(() => wait('acme', 'greedy')).toThrow(RATE_LIMITED);
    expect(queue.size).toBe(MAX_QUEUE_PER_HOLDER + 1);
  });

  test('are as many in one gateway as it holds, of all tenants, and one more when one has left', () => {
    const { queue, wait, fill } = create();
    const holders = MAX_QUEUE / MAX_QUEUE_PER_HOLDER;
    const left = Array.from({ length: holders }, (_, n) => fill('acme', `key-${n}`)).flat();
    expect(queue.size).toBe(MAX_QUEUE);
    expect(() => wait('acme', 'another')).toThrow(AT_CAPACITY);
    expect(() => wait('other', 'another')).toThrow(AT_CAPACITY);
    left[0]?.();
    wait('other', 'another');
    expect(() => wait('other', 'another')).toThrow(AT_CAPACITY);
    expect(queue.size).toBe(MAX_QUEUE);
  });

  test('go back to the front however many wait: they had their place', () => {
    const { queue, wait, fill } = create();
    fill('acme', 'greedy');
    wait('acme', 'greedy', 'front');
    expect(queue.size).toBe(MAX_QUEUE_PER_HOLDER + 1);
  });
});
