import type { Clock } from './clock.ts';
import type { Cluster } from './cluster.ts';
import { fitAnnouncements } from './fit-announcements.ts';
import { type Capacity, createGrantBook } from './link/grants.ts';
import type { Link } from './link/link.ts';
import type { Log } from './log.ts';

/** How long a change of what is announced may gather others before it is told. */
const ANNOUNCE_AFTER_MS = 50;
/** Grants in one frame: names as long as they may be leave room. */
export const GRANTS_PER_FRAME = 256;

/** Tells gateways what may be started here: grants as they come free, announcements as they change. */
export type Slots = {
  joined(link: Link): void;
  gone(link: Link): void;
  spent(link: Link, cluster: string, template: string): void;
  /** Something may be free there now. */
  freed(cluster: string, template: string): void;
  /** What is announced of a template, or of any of a cluster, may be another now. */
  changed(cluster: string, template?: string): void;
  /** No more grants. */
  hold(): void;
};

export function createSlots(clusters: ReadonlyMap<string, Cluster>, clock: Clock, log: Log): Slots {
  const book = createGrantBook<Link>();
  /** Links that have joined, and the announcement each has been told. */
  const told = new Map<Link, string>();
  /** Where more may be granted than is, by cluster: templates, or all that it has. */
  const marked = new Map<string, Set<string> | 'all'>();
  let raising = false;
  let announcing = false;
  let held = false;
  /** Clusters that there was no room for, each said once. */
  const unannounced = new Set<string>();

  function capacities(): Capacity[] {
    const found: Capacity[] = [];
    for (const [cluster, templates] of marked)
      for (const pool of clusters.get(cluster)?.pools() ?? [])
        if (templates === 'all' || templates.has(pool.template.name))
          found.push({ cluster, template: pool.template.name, capacity: pool.capacity() });
    marked.clear();
    return found;
  }

  function raise(): void {
    raising = false;
    if (held) return;
    for (const [link, grants] of book.raise(capacities()))
      for (let at = 0; at < grants.length; at += GRANTS_PER_FRAME)
        link.send('SLOTS', { grants: grants.slice(at, at + GRANTS_PER_FRAME), clusters: null });
  }

  function announce(): void {
    announcing = false;
    const all = [...clusters.values()].map((cluster) => cluster.announcement());
    const { announcements, leftOut } = fitAnnouncements(all);
    const unsaid = leftOut.filter((name) => !unannounced.has(name));
    for (const name of unsaid) unannounced.add(name);
    if (unsaid.length > 0) log('clusters_not_announced', { clusters: unsaid });
    const text = JSON.stringify(announcements);
    for (const [link, last] of told) {
      if (last === text) continue;
      told.set(link, text);
      link.send('SLOTS', { grants: [], clusters: [...announcements] });
    }
  }

  function freed(cluster: string, template?: string): void {
    if (held) return;
    const templates = marked.get(cluster) ?? new Set();
    if (template === undefined) marked.set(cluster, 'all');
    else if (templates !== 'all') marked.set(cluster, templates.add(template));
    if (raising) return;
    raising = true;
    // After what is under way in this turn: executions that end together are granted together.
    queueMicrotask(raise);
  }

  function freedAll(): void {
    for (const cluster of clusters.keys()) freed(cluster);
  }

  return {
    joined(link) {
      told.set(link, '');
      announce();
      if (link.serverId !== null) book.join(link, link.serverId);
      freedAll();
    },
    gone(link) {
      told.delete(link);
      book.leave(link);
      freedAll();
    },
    spent: (link, cluster, template) => book.spend(link, cluster, template),
    freed,
    changed(cluster, template) {
      freed(cluster, template);
      if (announcing) return;
      announcing = true;
      clock.after(ANNOUNCE_AFTER_MS, announce);
    },
    hold() {
      held = true;
    },
  };
}
