import type { ClusterAnnouncement } from '../../shared/announcement.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { RECORD_TTL_MS } from '../../shared/limits.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { Cluster, Instance } from './instance.ts';

/** Clusters of one tenant that are remembered, those without an agent among them. */
export const MAX_CLUSTERS_PER_TENANT = 4_096;

/** Instances of one tenant that agents told of, whether or not they are ever seen. */
export const MAX_TOLD = 1_024;

/** Announcements of one tenant's instances together, as JSON spells them: what they hold takes about three times as much. */
export const MAX_ANNOUNCED_PER_TENANT = 134_217_728;

/** What this replica knows of one tenant's agents. */
export type Tenant = {
  readonly instances: Map<string, Instance>;
  readonly clusters: Map<string, Cluster>;
  /** Instances that were never linked here, by when an agent first told of them. */
  readonly toldMs: Map<string, number>;
  links: number;
  grants: number;
  announcedLength: number;
};

export function createTenant(): Tenant {
  return {
    instances: new Map(),
    clusters: new Map(),
    toldMs: new Map(),
    links: 0,
    grants: 0,
    announcedLength: 0,
  };
}

/** Takes what an instance serves in place of what it announced before, or nothing of it: a code is what is wrong with it. */
export function announce(
  tenant: Tenant,
  instance: Instance,
  clusters: readonly ClusterAnnouncement[],
): ErrorCode | null {
  const announced = new Map(clusters.map((cluster) => [cluster.name, cluster]));
  if (announced.size !== clusters.length) return 'protocol_error';
  const { length } = JSON.stringify(clusters);
  const together = tenant.announcedLength - instance.announcedLength + length;
  if (together > MAX_ANNOUNCED_PER_TENANT || !hasRoom(tenant, instance, announced)) return 'forbidden';
  for (const name of instance.announced.keys())
    if (!announced.has(name)) tenant.clusters.get(name)?.instances.delete(instance);
  const serves = new Set<string>();
  for (const name of announced.keys()) {
    let cluster = tenant.clusters.get(name);
    if (!cluster) {
      if (tenant.clusters.size >= MAX_CLUSTERS_PER_TENANT) forgetEmpty(tenant);
      cluster = { name, instances: new Set() };
      tenant.clusters.set(name, cluster);
    }
    cluster.instances.add(instance);
    // The tenant's own copy of the name: instances that are away are many, and each keeps its names.
    serves.add(cluster.name);
  }
  instance.announced = announced;
  instance.announcedLength = length;
  tenant.announcedLength = together;
  instance.serves = serves;
  return null;
}

/** Remembers instances that an agent told of. */
export function hear(tenant: Tenant, peers: readonly string[], nowMs: number): void {
  for (const [name, toldMs] of tenant.toldMs) if (toldMs <= nowMs - RECORD_TTL_MS) tenant.toldMs.delete(name);
  for (const name of peers)
    if (!tenant.toldMs.has(name) && tenant.toldMs.size < MAX_TOLD) tenant.toldMs.set(name, nowMs);
}

/** Instances that lost their last link so long ago that nobody comes back for them. */
export function forgetGone(tenant: Tenant, nowMs: number): void {
  const before = nowMs - RECORD_TTL_MS;
  for (const [name, { links, lostAtMs }] of tenant.instances)
    if (links.size === 0 && lostAtMs <= before) tenant.instances.delete(name);
}

/** Instances with a link, and those that lost theirs later than this without saying that they go. */
export function present({ instances }: Tenant, lostAfterMs: number): Instance[] {
  return [...instances.values()].filter(
    ({ links, lostAtMs, drains }) => links.size > 0 || (lostAtMs > lostAfterMs && !drains),
  );
}

/** Whether what an instance announces fits beside the clusters that others serve. */
function hasRoom({ clusters }: Tenant, instance: Instance, announced: Instance['announced']): boolean {
  let count = announced.size;
  for (const { name, instances } of clusters.values())
    if (!announced.has(name) && instances.size > (instances.has(instance) ? 1 : 0)) count += 1;
  return count <= MAX_CLUSTERS_PER_TENANT;
}

function forgetEmpty({ clusters }: Tenant): void {
  for (const [name, { instances }] of clusters)
    if (instances.size === 0) {
      clusters.delete(name);
      return;
    }
}

/** Instances of one token's holder that take work. One that drains has made room for the one that follows it. */
export function working(tenant: Tenant, sub: string): number {
  const isWorking = (link: GatewayLink) => !link.draining;
  return [...tenant.instances.values()].filter(
    (each) => each.sub === sub && [...each.links.keys()].some(isWorking),
  ).length;
}
