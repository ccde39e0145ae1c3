import { LINKS_PER_REPLICA, MAX_REPLICAS } from '../../shared/limits.ts';

/** A link as the plan sees it. `serverId` is null until it has joined. */
export type PlannedLink = { readonly serverId: string | null; readonly leaving: boolean };

export type LinksView = {
  readonly links: readonly PlannedLink[];
  /** Replicas that the newest WELCOME told of. */
  readonly replicas: number;
};

/**
 * Whether another link is wanted. The agent cannot choose the replica that a dial leads to, so it dials, one at a time,
 * until each replica has its links.
 */
export function wantsLink({ links, replicas }: LinksView): boolean {
  if (links.some(({ serverId }) => serverId === null)) return false;
  const found = linksPerReplica(links);
  if (found.size === 0) return true;
  if (found.size < Math.min(replicas, MAX_REPLICAS)) return true;
  return [...found.values()].some((count) => count < LINKS_PER_REPLICA);
}

/** True for a replica that has its links already, or is one too many. `others` are the links without the new one. */
export function isSurplus(serverId: string, others: readonly PlannedLink[]): boolean {
  const found = linksPerReplica(others);
  const count = found.get(serverId) ?? 0;
  return count >= LINKS_PER_REPLICA || (count === 0 && found.size >= MAX_REPLICAS);
}

function linksPerReplica(links: readonly PlannedLink[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const { serverId, leaving } of links)
    if (serverId !== null && !leaving) found.set(serverId, (found.get(serverId) ?? 0) + 1);
  return found;
}
