import type * as z from 'zod';
import type { ClusterAnnouncement } from '../../shared/announcement.ts';
import type { clusterList } from '../../shared/api.ts';
import { type Caller, mayUseCluster, mayUseTemplate } from '../auth/caller.ts';
import type { ClusterDirectory } from './cluster-directory.ts';
import { type Cluster, freeSlots, type Instance } from './instance.ts';

type Listed = z.infer<typeof clusterList>['clusters'][number];

const STATES = ['ready', 'degraded', 'unavailable'] as const;

/** The clusters that a key may use, by name. */
export function usableClusters(directory: ClusterDirectory, caller: Caller): Cluster[] {
  return [...directory.clusters(caller.tenant)]
    .filter(({ name }) => mayUseCluster(caller, name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A cluster as `GET /v1/clusters` shows it. */
export function describeCluster({ name, instances }: Cluster, caller: Caller): Listed {
  const all = [...instances].sort((a, b) => a.firstSeenMs - b.firstSeenMs);
  const announcedBy = (some: readonly Instance[]) =>
    some.flatMap(({ announced }) => announced.get(name) ?? []);
  const announced = announcedBy(all);
  const newest = announced.at(-1);
  // The best state counts, since any instance that takes work will do.
  const taking = announcedBy(all.filter((instance) => !isDraining(instance)));
  const state = STATES.find((each) => taking.some((one) => one.state === each)) ?? 'unavailable';
  return {
    name,
    state,
    detail:
      taking.length > 0
        ? (taking.find((one) => one.state === state)?.detail ?? null)
        : newest
          ? 'Its agents are leaving.'
          : 'No agent is connected.',
    backend: newest?.backend ?? 'unknown',
    kubernetes_version: newest?.kubernetes_version ?? null,
    instances: all.map((instance) => ({
      instance: instance.name,
      first_seen: instance.firstSeenMs / 1000,
      links: instance.links.size,
      draining: isDraining(instance),
    })),
    templates: templatesOf(name, all, caller),
    isolation: newestCheck(announced.map(({ isolation }) => isolation)) ?? { checked_at: null, findings: [] },
  };
}

function isDraining({ links }: Instance): boolean {
  return [...links.keys()].every((link) => link.draining);
}

function templatesOf(cluster: string, instances: readonly Instance[], caller: Caller): Listed['templates'] {
  const byName = new Map<string, Listed['templates'][number]>();
  for (const instance of instances) {
    for (const template of instance.announced.get(cluster)?.templates ?? []) {
      if (!mayUseTemplate(caller, template.name)) continue;
      const listed = byName.get(template.name) ?? emptyListing(template);
      byName.set(template.name, listed);
      // What was granted stands, also where the template has become smaller since.
      listed.slots_free += Math.min(freeSlots(instance, cluster, template), template.total);
      listed.slots_total += template.total;
      listed.languages = [...new Set([...listed.languages, ...template.languages])];
      // One instance without trouble is enough to run.
      if (template.trouble === null) listed.trouble = null;
      listed.isolation = newestCheck([listed.isolation, template.isolation]);
    }
  }
  return [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function emptyListing(template: ClusterAnnouncement['templates'][number]): Listed['templates'][number] {
  const { name, reuse, network, max_memory_mb, max_timeout_ms, trouble } = template;
  return {
    name,
    languages: [],
    reuse,
    network,
    slots_free: 0,
    slots_total: 0,
    max_memory_mb,
    max_timeout_ms,
    trouble: trouble && { code: trouble.code, detail: trouble.detail },
    isolation: null,
  };
}

/** Of what several instances found, the last. */
function newestCheck<Check extends { checked_at: number | null }>(
  checks: readonly (Check | null | undefined)[],
): Check | null {
  const made = checks.filter((check) => check != null && check.checked_at !== null) as Check[];
  made.sort((a, b) => (b.checked_at ?? 0) - (a.checked_at ?? 0));
  return made[0] ?? null;
}
