import * as z from 'zod';
import { clusterName } from './cluster-name.ts';

/** Bytes, milliseconds, how many there are. */
export const count = z.int().min(0);
/** What one frame announces at most: clusters of an agent, templates of a cluster. */
export const MAX_CLUSTERS = 256;
export const MAX_TEMPLATES = 64;
/** UTF-16 units of a sentence, as schemas count them. */
export const MAX_SENTENCE_LENGTH = 1_024;
/** What somebody is told. */
export const sentence = z.string().max(MAX_SENTENCE_LENGTH);

/** The text as a sentence may be long: half a character at the cut goes too. */
export function fitSentence(text: string): string {
  if (text.length <= MAX_SENTENCE_LENGTH) return text;
  return `${text.slice(0, MAX_SENTENCE_LENGTH - 1).replace(/[\uD800-\uDBFF]$/, '')}…`;
}

export const ISOLATION_STATES = ['holds', 'broken', 'unknown'] as const;

const isolationFindings = z
  .array(z.object({ name: z.string().max(64), state: z.enum(ISOLATION_STATES), detail: sentence }))
  .max(64);

/** What the canary found: one line a promise, as it is where it is worst. Unix seconds; null before the first canary. */
export const isolationReport = z.object({
  checked_at: z.number().nullable(),
  findings: isolationFindings,
});
/** The same of one template, and the worst of it. Findings may be left out where a frame has no room. */
export const templateIsolation = z.object({
  checked_at: z.number(),
  state: z.enum(ISOLATION_STATES),
  findings: isolationFindings,
});

export const templateAnnouncement = z.object({
  name: z.string().max(63),
  hash: z.string().max(64),
  languages: z.array(z.string().max(32)).max(16),
  total: count,
  reuse: z.enum(['single_use', 'reset']),
  network: z.enum(['none', 'cluster']),
  max_memory_mb: count,
  max_timeout_ms: count,
  /**
   * Why the template cannot have all its sandboxes, if it cannot. `free` can be taken all the same, whatever was granted
   * before; `waits`: sandboxes come free in spite of it, so that waiting for one is worth it.
   */
  trouble: z
    .object({
      code: z.string().max(64),
      detail: sentence,
      free: count.default(0),
      waits: z.boolean().default(false),
    })
    .nullable(),
  isolation: templateIsolation.nullable().optional(),
});

export const clusterAnnouncement = z.object({
  name: clusterName,
  backend: z.enum(['kubernetes', 'docker', 'local']),
  state: z.enum(['ready', 'degraded', 'unavailable']),
  detail: sentence.nullable(),
  kubernetes_version: z.string().max(64).nullable(),
  isolation: isolationReport,
  templates: z.array(templateAnnouncement).max(MAX_TEMPLATES),
});
export type ClusterAnnouncement = z.infer<typeof clusterAnnouncement>;
export type TemplateAnnouncement = z.infer<typeof templateAnnouncement>;

/** Whether whoever asks for the template is told its trouble at once. `free`: what of it can be taken. */
export function isHopeless(
  { trouble }: Pick<TemplateAnnouncement, 'trouble'>,
  free = trouble?.free ?? 0,
): boolean {
  return trouble !== null && !trouble.waits && free === 0;
}
