import { describe, expect, test } from 'vitest';
import type { Caller } from '../../gateway/auth/caller.ts';
import { ClusterDirectory } from '../../gateway/clusters/cluster-directory.ts';
import type { GatewayLink } from '../../gateway/link/gateway-link.ts';
import { SlotQueue, type SlotRequest } from '../../gateway/queue/slot-queue.ts';
import { MAX_QUEUE, MAX_QUEUE_PER_HOLDER } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import { announceCluster, announceTemplate } from '../fakes/mock-agent.ts';

/** A queue of a gateway without agents: everything waits. */
function create(maxPerTenant?: number) {
  const onFreed = () => {};
  const directory = new ClusterDirectory({ now: () => 0, elapsed: () => 0, maxLinksPerTenant: 10, onFreed });
  const queue = new SlotQueue(directory, { setTimeout: () => undefined, clearTimeout() {} }, maxPerTenant);
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

  test('are as many of one tenant as it may have, and one more when one has left', () => {
    const { queue, wait, fill } = create(5);
    const [leave] = fill('acme', 'a', 2);
    fill('acme', 'b', 3);
    expect(() => wait('acme', 'c')).toThrow(RATE_LIMITED);
    fill('other', 'a', 5);
    leave?.();
    wait('acme', 'c');
    expect(() => wait('acme', 'c')).toThrow(RATE_LIMITED);
    expect(queue.size).toBe(10);
  });

  test('go back to the front however many wait: they had their place', () => {
    const { queue, wait, fill } = create();
    fill('acme', 'greedy');
    wait('acme', 'greedy', 'front');
    expect(queue.size).toBe(MAX_QUEUE_PER_HOLDER + 1);
  });

  test('are looked at where something of what they want may be free, and no others: not by what agents tell, nor by those that come', () => {
    const looked: string[] = [];
    const placed: string[] = [];
    let look = () => {};
    const directory: ClusterDirectory = new ClusterDirectory({
      now: () => 0,
      elapsed: () => 0,
      maxLinksPerTenant: 10,
      onFreed: (tenant, at) => queue.freed(tenant, at),
    });
    const setTimeout = (next: () => void) => {
      look = next;
    };
    const queue = new SlotQueue(directory, { setTimeout, clearTimeout() {} });
    const agent = { tenant: 'acme', sub: 'agent', thumbprint: 't', maxInstances: null };
    const link = { agent, instance: 'i', draining: false, joined: true, lastHeardMs: 0, running: 0 };
    const tell = (body: FromAgent['SLOTS']) => directory.slots(link as unknown as GatewayLink, body);
    const caller = { tenant: 'acme', holder: 'acme/a', clusters: null, templates: null } as unknown as Caller;
    const held = new Set(['lab t-7']);
    const wait = (cluster: string | null, template: string) => {
      const name = `${cluster} ${template}`;
      const none: SlotRequest['refused'] = new Set();
      const request: SlotRequest = {
        wanted: { caller, cluster, template, language: null },
        refused: none,
        avoided: none,
        held: () => {
          looked.push(name);
          return held.has(name);
        },
        placed: () => placed.push(name),
      };
      queue.request(request, 'end');
    };
    const looks = () => looked.splice(0);
    expect(directory.join(link as unknown as GatewayLink)).toBeNull();
    const templates = Array.from({ length: 20 }, (_, n) => announceTemplate({ name: `t-${n}` }));
    tell({ grants: [], clusters: [announceCluster({ name: 'lab', templates })] });
    for (const { name } of templates) for (const cluster of ['lab', null]) wait(cluster, name);
    expect(looks()).toHaveLength(40);
    tell({ grants: [{ cluster: 'lab', template: 't-3', granted: 1 }], clusters: null });
    expect(placed).toEqual(['lab t-3']);
    expect(looks()).toEqual(['lab t-3', 'null t-3']);
    tell({ grants: [], clusters: [announceCluster({ name: 'lab', templates: templates.slice(5, 6) })] });
    expect(looks()).toEqual(['lab t-5', 'null t-5']);
    tell({ grants: [{ cluster: 'other', template: 't-5', granted: 1 }], clusters: null });
    expect(looks()).toEqual(['null t-5']);
    tell({ grants: [], clusters: [announceCluster({ name: 'lab', templates })] });
    looks();
    // The one that is held is looked at by the clock, alone, and has what was free meanwhile unless another took it.
    tell({ grants: [{ cluster: 'lab', template: 't-7', granted: 2 }], clusters: null });
    expect(placed).toEqual(['lab t-3', 'null t-7']);
    looks();
    look();
    expect(looks()).toEqual(['lab t-7']);
    held.clear();
    look();
    expect(looks()).toEqual(['lab t-7']);
    expect(placed).toEqual(['lab t-3', 'null t-7', 'lab t-7']);
  });
});
