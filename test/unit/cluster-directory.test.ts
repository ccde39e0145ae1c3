import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { ClusterDirectory, MAX_GRANTS_PER_TENANT } from '../../gateway/clusters/cluster-directory.ts';
import { MAX_GRANTS } from '../../gateway/clusters/grants.ts';
import {
  MAX_ANNOUNCED_PER_TENANT,
  MAX_CLUSTERS_PER_TENANT,
  MAX_TOLD,
} from '../../gateway/clusters/tenant.ts';
import type { KeyedContext } from '../../gateway/http/route.ts';
import type { GatewayLink } from '../../gateway/link/gateway-link.ts';
import { createClusterRoutes } from '../../gateway/routes/clusters.ts';
import { RECORD_TTL_MS } from '../../shared/limits.ts';
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

const LINK = {
  agent: { tenant: 'acme', sub: 'agent', thumbprint: 't', maxInstances: null },
  draining: false,
  joined: true,
  lastHeardMs: 0,
};
const linkOf = (instance: string) => ({ ...LINK, instance }) as unknown as GatewayLink;
const create = () =>
  new ClusterDirectory({ now: () => 0, elapsed: () => 0, maxLinksPerTenant: 20_000, onFreed() {} });

test('of the instances that agents tell of MAX_TOLD are remembered, and not one more', () => {
  const directory = create();
  const names = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, index) => `told-${from + index}`);
  directory.join(linkOf('a'), names(0, MAX_TOLD - 1));
  for (const more of [MAX_TOLD, MAX_TOLD + 1]) {
    directory.join(linkOf('b'), names(MAX_TOLD - 1, more));
    expect(directory.serving('acme', 'lab', 1_000)).toHaveLength(MAX_TOLD);
  }
});

/** A directory at a time of its own. */
function createAt() {
  const at = { ms: 10 * RECORD_TTL_MS };
  const directory = new ClusterDirectory({
    now: () => 0,
    elapsed: () => at.ms,
    maxLinksPerTenant: 20_000,
    onFreed() {},
  });
  const join = (instance: string, ...clusters: string[]) => {
    const link = linkOf(instance);
    expect(directory.join(link)).toBeNull();
    announce(link, ...clusters);
    return link;
  };
  const announce = (link: GatewayLink, ...names: string[]) => {
    const clusters = names.map((name) => announceCluster({ name }));
    expect(directory.slots(link, { grants: [], clusters })).toBeNull();
  };
  return { at, directory, join, announce };
}

test('an instance that agents tell of is waited for since it was first told of, and its room is another’s in the end', () => {
  const { at, directory } = createAt();
  const serving = () => directory.serving('acme', 'lab', 1_000);
  directory.join(linkOf('a'), ['told']);
  at.ms += 999;
  directory.join(linkOf('b'), ['told']);
  expect(serving()).toEqual(['told']);
  at.ms += 1;
  expect(serving()).toEqual([]);
  directory.join(
    linkOf('c'),
    Array.from({ length: MAX_TOLD - 1 }, (_, index) => `told-${index}`),
  );
  at.ms += RECORD_TTL_MS - 1_001;
  directory.join(linkOf('d'), ['late']);
  expect(serving()).toEqual([]);
  at.ms += 1;
  directory.join(linkOf('e'), ['late']);
  expect(serving()).toEqual(['late']);
});

test('an instance without a link serves for as long as it may be away, unless it said that it goes', () => {
  const { at, directory, join } = createAt();
  const known = () => [
    directory.serving('acme', 'lab', 1_000),
    directory.peers({ tenant: 'acme', clusters: ['lab'] }, 1_000),
  ];
  const stays = join('stays', 'lab');
  const leaves = join('leaves', 'lab');
  directory.drain(leaves);
  expect(known()).toEqual([
    ['leaves', 'stays'],
    ['stays', 'leaves'],
  ]);
  directory.leave(stays);
  directory.leave(leaves);
  at.ms += 999;
  expect(known()).toEqual([['stays'], ['stays']]);
  at.ms += 1;
  expect(known()).toEqual([[], []]);
  // With a link it serves, however long ago it lost another.
  join('stays', 'lab');
  expect(known()).toEqual([['stays'], ['stays']]);
});

test('a cluster that an instance announces no more is no longer its own, and others keep it', () => {
  const { directory, join, announce } = createAt();
  const first = join('first', 'lab', 'plant');
  join('second', 'plant');
  announce(first, 'lab');
  const served = (cluster: string) =>
    [...(directory.cluster('acme', cluster)?.instances ?? [])].map(({ name }) => name);
  expect([served('lab'), served('plant')]).toEqual([['first'], ['second']]);
  expect(directory.serving('acme', 'plant', 1_000)).toEqual(['second']);
});

test('an agent’s token is for so many instances of its own, whatever others of its tenant run', () => {
  const { directory } = createAt();
  const link = (instance: string, sub: string) =>
    ({ ...LINK, agent: { ...LINK.agent, sub, maxInstances: 1 }, instance }) as unknown as GatewayLink;
  const first = link('first', 'one');
  expect(directory.join(first)).toBeNull();
  expect(directory.join(link('second', 'other'))).toBeNull();
  expect(directory.join(link('third', 'one'))).toBe('forbidden');
  Object.assign(first, { draining: true });
  expect(directory.join(link('third', 'one'))).toBeNull();
});

test('a tenant has so many clusters and not one more, unless one of them has no agent', () => {
  const directory = create();
  const announce = (link: GatewayLink, from: number, to: number) => {
    directory.join(link);
    const clusters = Array.from({ length: to - from }, (_, at) =>
      announceCluster({ name: `c-${from + at}` }),
    );
    return directory.slots(link, { grants: [], clusters });
  };
  const [first, rest, late] = [linkOf('a'), linkOf('b'), linkOf('c')];
  expect(announce(first, 0, 1)).toBeNull();
  expect(announce(rest, 1, MAX_CLUSTERS_PER_TENANT)).toBeNull();
  expect(announce(late, MAX_CLUSTERS_PER_TENANT, MAX_CLUSTERS_PER_TENANT + 1)).toBe('forbidden');
  directory.leave(first);
  expect(announce(late, MAX_CLUSTERS_PER_TENANT, MAX_CLUSTERS_PER_TENANT + 1)).toBeNull();
  expect([...directory.clusters('acme')]).toHaveLength(MAX_CLUSTERS_PER_TENANT);
});

test('an instance whose announcement was one cluster too many serves what it announced before, over its other link', () => {
  const directory = create();
  const announce = (link: GatewayLink, names: string[]) => {
    const clusters = names.map((name) => announceCluster({ name }));
    return directory.slots(link, { grants: [], clusters });
  };
  const [others, first, second] = [linkOf('a'), linkOf('b'), linkOf('b')];
  for (const link of [others, first, second]) expect(directory.join(link)).toBeNull();
  const theirs = Array.from({ length: MAX_CLUSTERS_PER_TENANT - 2 }, (_, at) => `c-${at}`);
  expect(announce(others, theirs)).toBeNull();
  expect(announce(first, ['lab', 'plant'])).toBeNull();
  expect(announce(second, ['c-0', 'lab', 'mine', 'yard'])).toBe('forbidden');
  directory.leave(second);
  const served = (cluster: string) =>
    [...(directory.cluster('acme', cluster)?.instances ?? [])].map(({ name }) => name);
  expect(['c-0', 'lab', 'plant', 'mine', 'yard'].map(served)).toEqual([['a'], ['b'], ['b'], [], []]);
  expect(announce(first, ['c-0', 'mine', 'yard'])).toBeNull();
  expect(['c-0', 'lab', 'plant', 'mine', 'yard'].map(served)).toEqual([['a', 'b'], [], [], ['b'], ['b']]);
});

test('the links of a tenant are granted so many templates together and not one more, however many links there are', () => {
  const directory = create();
  const granted = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, at) => ({
      cluster: 'lab',
      template: `t-${from + at}`,
      granted: 1,
    }));
  const grant = (link: GatewayLink, from: number, to: number) =>
    directory.slots(link, { grants: granted(from, to), clusters: null });
  const links = Array.from({ length: Math.ceil(MAX_GRANTS_PER_TENANT / MAX_GRANTS) }, (_, at) =>
    linkOf(`i-${at}`),
  );
  const last = MAX_GRANTS_PER_TENANT % MAX_GRANTS;
  for (const link of links) {
    expect(directory.join(link)).toBeNull();
    expect(grant(link, 0, link === links.at(-1) ? last : MAX_GRANTS)).toBeNull();
  }
  const late = linkOf('late');
  directory.join(late);
  // What it was granted before is no more for being raised.
  expect(grant(links[0] as GatewayLink, 0, MAX_GRANTS)).toBeNull();
  expect(grant(late, 0, 1)).toBe('forbidden');
  directory.leave(late);
  directory.leave(links[0] as GatewayLink);
  directory.join(late);
  expect(grant(late, 0, MAX_GRANTS)).toBeNull();
  expect(grant(links[1] as GatewayLink, MAX_GRANTS, MAX_GRANTS + 1)).toBe('protocol_error');
  directory.leave(links[1] as GatewayLink);
  directory.join(links[1] as GatewayLink);
  expect(grant(links[1] as GatewayLink, 0, MAX_GRANTS)).toBeNull();
  directory.join(links[0] as GatewayLink);
  expect(grant(links[0] as GatewayLink, 0, 1)).toBe('forbidden');
});

test('the instances of a tenant announce so much together and not one character more, until one of them goes or says less', () => {
  const directory = create();
  const lengthOf = (detail: string) => JSON.stringify([announceCluster({ name: 'lab', detail })]).length;
  const envelope = lengthOf('');
  /** One that is `length` characters as JSON. */
  const announce = (link: GatewayLink, length: number) => {
    const clusters = [announceCluster({ name: 'lab', detail: 'x'.repeat(length - envelope) })];
    return directory.slots(link, { grants: [], clusters });
  };
  const share = MAX_ANNOUNCED_PER_TENANT / 4;
  const links = Array.from({ length: 4 }, (_, at) => linkOf(`i-${at}`));
  const [first, second] = links as [GatewayLink, GatewayLink];
  const late = linkOf('late');
  for (const link of [...links, late]) expect(directory.join(link)).toBeNull();
  for (const link of links) expect(announce(link, share)).toBeNull();
  // What is announced again takes the place of what was, and one of two links takes nothing with it.
  const sister = linkOf('i-0');
  expect(directory.join(sister)).toBeNull();
  expect(announce(sister, share)).toBeNull();
  directory.leave(sister);
  expect(announce(first, share + 1)).toBe('forbidden');
  expect(announce(late, envelope)).toBe('forbidden');
  expect(announce(first, share - envelope)).toBeNull();
  expect(announce(late, envelope + 1)).toBe('forbidden');
  expect(announce(late, envelope)).toBeNull();
  directory.leave(second);
  expect(announce(late, envelope + share)).toBeNull();
  directory.join(second);
  expect(announce(second, envelope)).toBe('forbidden');
  // Nothing crosses tenants.
  const other = { ...linkOf('i-0'), agent: { ...LINK.agent, tenant: 'other' } } as unknown as GatewayLink;
  expect(directory.join(other)).toBeNull();
  expect(announce(other, share)).toBeNull();
});

test('a page of GET /v1/clusters goes through its own clusters’ templates, whatever else the tenant has', async () => {
  const directory = create();
  const link = linkOf('a');
  directory.join(link);
  const clusters = Array.from({ length: 20 }, (_, at) => announceCluster({ name: `c-${at}` }));
  directory.slots(link, { grants: [], clusters });
  let looks = 0;
  const caller = {
    tenant: 'acme',
    clusters: null,
    get templates() {
      looks += 1;
      return null;
    },
  };
  const request = new Request('http://gate.example/v1/clusters?limit=2&cursor=c-11');
  const [route] = createClusterRoutes({ directory });
  const context = { request, caller, pathCluster: null } as unknown as KeyedContext;
  const answer = (await route?.handle(context)) as Response;
  expect(await answer.json()).toMatchObject({
    clusters: [
      { name: 'c-12', templates: [{}] },
      { name: 'c-13', templates: [{}] },
    ],
    next_cursor: 'c-13',
  });
  expect(looks).toBe(2);
});
