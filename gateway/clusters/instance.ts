import type { ClusterAnnouncement, TemplateAnnouncement } from '../../shared/announcement.ts';
import { DEAD_MS } from '../../shared/limits.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { Grants } from './grants.ts';

/**
 * How long an instance that has no link may take to come back: it may have to find out first, by silence, that its links
 * are dead, and its third dial comes 7 s after that at the latest.
 */
export const COMEBACK_MS = DEAD_MS + 10_000;

/** One run of an agent. It stays for a while after its last link, so that it keeps its first-seen. */
export type Instance = {
  readonly name: string;
  readonly sub: string;
  /** Of the key that it proved to hold: a link of the same name with another key is not this instance. */
  readonly thumbprint: string;
  readonly firstSeenMs: number;
  readonly links: Map<GatewayLink, Grants>;
  /** Nothing while it has no link. */
  announced: ReadonlyMap<string, ClusterAnnouncement>;
  /** Of what it announced, as JSON spells it. */
  announcedLength: number;
  /** Names of the clusters that it announced last, also while it is away. */
  serves: ReadonlySet<string>;
  lostAtMs: number;
  /** It said that it goes. */
  drains: boolean;
};

export type Cluster = { readonly name: string; readonly instances: Set<Instance> };

/** Where slots are: a template of a cluster at one instance. */
export type SlotPlace = { readonly cluster: string; readonly template: string; readonly of: Instance };

/** The template of a cluster as one instance announces it. */
export function announcedTemplate(
  instance: Instance,
  cluster: string,
  template: string,
): TemplateAnnouncement | undefined {
  return instance.announced.get(cluster)?.templates.find(({ name }) => name === template);
}

/**
 * Grants left for a template over the links of an instance that take new work. What was granted is not taken back: where
 * the template is in trouble since, only what the agent still has counts.
 */
export function freeSlots(
  instance: Instance,
  cluster: string,
  { name, trouble }: Pick<TemplateAnnouncement, 'name' | 'trouble'>,
): number {
  let granted = 0;
  for (const [link, grants] of instance.links) if (!link.draining) granted += grants.free(cluster, name);
  return trouble ? Math.min(granted, trouble.free) : granted;
}
