import { type ClusterAnnouncement, MAX_CLUSTERS } from '../shared/announcement.ts';
import { MAX_CONTROL_BYTES } from '../shared/limits.ts';

/** Room for what a SLOTS frame holds beside the announcements. */
const ENVELOPE_BYTES = 1_024;
export const MAX_ANNOUNCEMENTS_BYTES = MAX_CONTROL_BYTES - ENVELOPE_BYTES;

type Findings = ClusterAnnouncement['isolation']['findings'];

/** What may be left out, least missed first: words for what holds, what holds at all, what each template's canary found. */
const STEPS: readonly ((findings: Findings, of: 'cluster' | 'template') => Findings)[] = [
  (findings) => findings.map((each) => (each.state === 'holds' ? { ...each, detail: '' } : each)),
  (findings, of) => (of === 'cluster' ? findings : findings.filter(({ state }) => state !== 'holds')),
  (findings, of) => (of === 'cluster' ? findings : []),
  (findings) => findings.filter(({ state }) => state !== 'holds').map((each) => ({ ...each, detail: '' })),
  () => [],
];

export type Fitted = {
  readonly announcements: readonly ClusterAnnouncement[];
  /** Names of the clusters that there was no room for. */
  readonly leftOut: readonly string[];
};

/**
 * The announcements as one control frame can carry them: what canaries found gives way first, then why something is in
 * trouble, then whole clusters, the last ones first.
 */
export function fitAnnouncements(
  announcements: readonly ClusterAnnouncement[],
  maxBytes: number = MAX_ANNOUNCEMENTS_BYTES,
): Fitted {
  let fitted = [...announcements];
  for (const step of STEPS) {
    if (bytesOf(fitted) <= maxBytes) break;
    fitted = fitted.map((cluster) => withFindings(cluster, step));
  }
  if (bytesOf(fitted) > maxBytes) fitted = fitted.map(withoutDetails);
  const count = Math.min(fitting(fitted, maxBytes), MAX_CLUSTERS);
  return { announcements: fitted.slice(0, count), leftOut: fitted.slice(count).map(({ name }) => name) };
}

/** The first of the names that an array of `maxBytes` holds, and a HELLO takes. */
export function fitNames(names: readonly string[], maxBytes: number): string[] {
  return names.slice(0, Math.min(fitting(names, maxBytes), MAX_CLUSTERS));
}

/** How many of the first an array of `maxBytes` holds. */
function fitting(items: readonly unknown[], maxBytes: number): number {
  let bytes = bytesOf([]);
  let count = 0;
  for (const item of items) {
    bytes += bytesOf(item) + (count === 0 ? 0 : 1);
    if (bytes > maxBytes) break;
    count += 1;
  }
  return count;
}

function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

function withFindings(cluster: ClusterAnnouncement, step: (typeof STEPS)[number]): ClusterAnnouncement {
  return {
    ...cluster,
    isolation: { ...cluster.isolation, findings: step(cluster.isolation.findings, 'cluster') },
    templates: cluster.templates.map((template) =>
      template.isolation
        ? {
            ...template,
            isolation: { ...template.isolation, findings: step(template.isolation.findings, 'template') },
          }
        : template,
    ),
  };
}

function withoutDetails(cluster: ClusterAnnouncement): ClusterAnnouncement {
  return {
    ...cluster,
    detail: null,
    templates: cluster.templates.map((template) =>
      template.trouble ? { ...template, trouble: { ...template.trouble, detail: '' } } : template,
    ),
  };
}
