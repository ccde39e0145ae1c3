import type { ClusterAnnouncement } from '../shared/announcement.ts';
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

/** The announcements as one control frame can carry them: what canaries found gives way before anything else does. */
export function fitAnnouncements(
  announcements: readonly ClusterAnnouncement[],
  maxBytes: number = MAX_ANNOUNCEMENTS_BYTES,
): ClusterAnnouncement[] {
  let fitted = [...announcements];
  for (const step of STEPS) {
    if (Buffer.byteLength(JSON.stringify(fitted)) <= maxBytes) break;
    fitted = fitted.map((cluster) => ({
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
    }));
  }
  return fitted;
}
