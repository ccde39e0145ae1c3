import { isHopeless } from '../../shared/announcement.ts';
import { matchesName } from '../../shared/claims.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { LINKS_PER_REPLICA } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { AuthenticatedAgent } from '../auth/caller.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import { Grants } from './grants.ts';
import { type Cluster, freeSlots, type SlotPlace } from './instance.ts';
import { announce, createTenant, forgetGone, hear, present, type Tenant, working } from './tenant.ts';

/** Templates that the links of one tenant are granted, each counted once a link. */
export const MAX_GRANTS_PER_TENANT = 500_000;

/** Where an instance is looked for: an id names all three. */
export type InstancePlace = { tenant: string; instance: string; cluster: string };

export type DirectoryOptions = {
  now: () => number;
  /** Milliseconds that only go forward: how long ago something was. */
  elapsed: () => number;
  maxLinksPerTenant: number;
  /** Something may be free there that was not before. */
  onFreed: (tenant: string, at: SlotPlace) => void;
};

/** Which agents are linked to this replica, what they serve and how much of it is free. Nothing crosses tenants. */
export class ClusterDirectory {
  readonly #options: DirectoryOptions;
  readonly #tenants = new Map<string, Tenant>();
  readonly #joinListeners = new Set<(tenant: string, instance: string) => void>();
  #links = 0;

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  get linkCount(): number {
    return this.#links;
  }

  /** Takes a link in, or says why not. More links than an instance may have replace the one that was silent longest. */
  join(link: GatewayLink, peers: readonly string[] = []): ErrorCode | null {
    const { tenant: name, sub, thumbprint, maxInstances } = link.agent;
    const tenant = this.#tenant(name);
    forgetGone(tenant, this.#options.elapsed());
    let instance = tenant.instances.get(link.instance);
    if (instance && (instance.sub !== sub || instance.thumbprint !== thumbprint)) return 'forbidden';
    if (tenant.links >= this.#options.maxLinksPerTenant) return 'forbidden';
    if (!instance?.links.size && maxInstances !== null && working(tenant, sub) >= maxInstances)
      return 'forbidden';
    if (!instance) {
      if (tenant.instances.size >= this.#options.maxLinksPerTenant) return 'forbidden';
      instance = {
        name: link.instance,
        sub,
        thumbprint,
        firstSeenMs: this.#options.now(),
        links: new Map(),
        announced: new Map(),
        announcedLength: 0,
        serves: new Set(),
        lostAtMs: Number.NEGATIVE_INFINITY,
        drains: false,
      };
      tenant.instances.set(link.instance, instance);
    }
    hear(tenant, peers, this.#options.elapsed());
    instance.links.set(link, new Grants());
    this.#links += 1;
    tenant.links += 1;
    const live = [...instance.links.keys()].filter((each) => !each.draining && each !== link);
    live.sort((a, b) => a.lastHeardMs - b.lastHeardMs);
    if (live.length >= LINKS_PER_REPLICA) live[0]?.close('replaced');
    for (const listener of [...this.#joinListeners]) listener(name, link.instance);
    return null;
  }

  /** Whether it was there. */
  leave(link: GatewayLink): boolean {
    const tenant = this.#tenants.get(link.agent.tenant);
    const instance = tenant?.instances.get(link.instance);
    const grants = instance?.links.get(link);
    if (!tenant || !instance || !grants) return false;
    instance.links.delete(link);
    this.#links -= 1;
    tenant.links -= 1;
    tenant.grants -= grants.size;
    if (instance.links.size > 0) return true;
    instance.lostAtMs = this.#options.elapsed();
    instance.announced = new Map();
    tenant.announcedLength -= instance.announcedLength;
    instance.announcedLength = 0;
    for (const cluster of tenant.clusters.values()) cluster.instances.delete(instance);
    return true;
  }

  /** Takes what an agent announces and grants. A code is what it did wrong. */
  slots(link: GatewayLink, body: FromAgent['SLOTS']): ErrorCode | null {
    const tenant = this.#tenant(link.agent.tenant);
    const instance = tenant.instances.get(link.instance);
    const grants = instance?.links.get(link);
    if (!instance || !grants) return null;
    if (body.clusters) {
      const refusal = announce(tenant, instance, body.clusters);
      if (refusal) return refusal;
    }
    const freed = (body.clusters ?? []).flatMap(({ name, templates }) =>
      templates.map((template) => ({ cluster: name, template: template.name, of: instance })),
    );
    for (const { cluster, template, granted } of body.grants) {
      const before = grants.size;
      const rises = grants.raise(cluster, template, granted);
      if (rises === undefined) return 'protocol_error';
      tenant.grants += grants.size - before;
      if (tenant.grants > MAX_GRANTS_PER_TENANT) return 'forbidden';
      if (rises) freed.push({ cluster, template, of: instance });
    }
    if (!link.draining) for (const at of freed) this.#options.onFreed(link.agent.tenant, at);
    return null;
  }

  drain(link: GatewayLink): void {
    const instance = this.#tenants.get(link.agent.tenant)?.instances.get(link.instance);
    if (instance) instance.drains = true;
  }

  /** A tenant's clusters, by name; those without an agent too, as long as they are remembered. */
  clusters(tenant: string): Iterable<Cluster> {
    return this.#tenants.get(tenant)?.clusters.values() ?? [];
  }

  cluster(tenant: string, name: string): Cluster | undefined {
    return this.#tenants.get(tenant)?.clusters.get(name);
  }

  /**
   * Names of the instances that serve a cluster, in one order for all replicas; those among them that lost their last link
   * less than `awayMs` ago without saying that they go: they may be back in a moment.
   */
  serving(tenant: string, cluster: string, awayMs: number): string[] {
    const known = this.#tenants.get(tenant);
    if (!known) return [];
    const names = present(known, this.#options.elapsed() - awayMs)
      .filter(({ serves }) => serves.has(cluster))
      .map(({ name }) => name);
    // Told of by others, and not seen yet: nobody knows what they serve.
    for (const [name, toldMs] of known.toldMs)
      if (toldMs > this.#options.elapsed() - awayMs && !known.instances.has(name)) names.push(name);
    return names.sort();
  }

  /**
   * Names of the instances whose clusters an agent may serve too, those among them that lost their last link less than
   * `awayMs` ago. It could join by any other name at a gateway that has just begun, and keep its owner out.
   */
  peers({ tenant, clusters }: Pick<AuthenticatedAgent, 'tenant' | 'clusters'>, awayMs: number): string[] {
    const known = this.#tenants.get(tenant);
    if (!known) return [];
    return present(known, this.#options.elapsed() - awayMs)
      .filter(({ serves }) => [...serves].some((name) => matchesName(clusters, name)))
      .map(({ name }) => name);
  }

  /**
   * A link to an instance of a cluster, the one that was heard last; `forWork`: one that takes new work. An agent may join
   * by any name: one that another cluster's instance had gives it nothing of that cluster.
   */
  linkTo({ tenant, instance, cluster }: InstancePlace, forWork = false): GatewayLink | undefined {
    const links = this.#tenants.get(tenant)?.instances.get(instance)?.links.keys() ?? [];
    const usable = [...links].filter(
      (link) => link.joined && matchesName(link.agent.clusters, cluster) && !(forWork && link.draining),
    );
    return usable.sort((a, b) => b.lastHeardMs - a.lastHeardMs)[0];
  }

  /** Calls back whenever a link joins; returns how to stop. */
  onJoin(listener: (tenant: string, instance: string) => void): () => void {
    this.#joinListeners.add(listener);
    return () => void this.#joinListeners.delete(listener);
  }

  allLinks(): GatewayLink[] {
    return [...this.#tenants.values()].flatMap((tenant) =>
      [...tenant.instances.values()].flatMap((instance) => [...instance.links.keys()]),
    );
  }

  /** Whether any agent here has a template that is not refused for its trouble. */
  canRun(): boolean {
    return [...this.#tenants.values()].some((tenant) =>
      [...tenant.clusters.values()].some(({ name, instances }) =>
        [...instances].some(
          (instance) =>
            [...instance.links.keys()].some((link) => !link.draining) &&
            instance.announced
              .get(name)
              ?.templates.some(
                (template) =>
                  !isHopeless(template) && !isHopeless(template, freeSlots(instance, name, template)),
              ),
        ),
      ),
    );
  }

  #tenant(name: string): Tenant {
    let tenant = this.#tenants.get(name);
    if (!tenant) {
      tenant = createTenant();
      this.#tenants.set(name, tenant);
    }
    return tenant;
  }
}
