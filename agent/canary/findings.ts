import * as z from 'zod';
import { fitSentence, ISOLATION_STATES, type isolationReport } from '../../shared/announcement.ts';
import type { Template } from '../../shared/template.ts';

/** One promise, as a canary found it. */
export type Finding = z.infer<typeof isolationReport>['findings'][number];

/** What a sandbox answers about itself, whatever the targets are. */
const OF_EVERY_SANDBOX = [
  'sandbox.shared',
  'files.write',
  'files.token',
  'environment',
  'privilege.user',
  'privilege.capabilities',
  'privilege.setuid',
  'privilege.no_new_privs',
  'privilege.seccomp',
] as const;
/** The cluster's own network, tried without the runner's filter. */
const POLICY = 'policy.';
const NETWORK = 'network.';
export const MAX_FINDINGS = 32;

const reportSchema = z.object({
  findings: z
    .array(z.tuple([z.string().regex(/^[a-z_.]{1,64}$/), z.enum(ISOLATION_STATES), z.string().max(240)]))
    .max(MAX_FINDINGS),
});

/** What a probe printed, or undefined where it is no report: a sandbox wrote it. */
export function parseFindings(text: string): Finding[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const report = reportSchema.safeParse(value);
  if (!report.success) return undefined;
  return report.data.findings.map(([name, state, detail]) => ({ name, state, detail }));
}

/** Findings about a sandbox as callers have it that was to try these kinds. What it was to say and did not is `unknown`. */
export function ofSandbox(
  found: readonly Finding[],
  template: Template,
  kinds: readonly string[] = [],
): Finding[] {
  const network = ['sockets', ...kinds].map((kind) => `${NETWORK}${kind}`);
  const names = template.network === 'none' ? [...network, ...OF_EVERY_SANDBOX] : OF_EVERY_SANDBOX;
  const missing = names.filter((name) => !found.some((each) => each.name === name));
  const relevant = found.filter(({ name }) => template.network === 'none' || !name.startsWith(NETWORK));
  return [...relevant, ...missing.map((name) => undecided(name, 'The canary said nothing of it.'))];
}

export function undecided(name: string, detail: string): Finding {
  return { name, state: 'unknown', detail: fitSentence(detail) };
}

export const isPolicy = ({ name }: Finding): boolean => name.startsWith(POLICY);

/** Whether a template stands or falls with it. The cluster's own network counts where the template requires it. */
export function isPromised(template: Template, finding: Finding): boolean {
  if (isPolicy(finding)) return template.require.includes('network_policy');
  const isFilter = finding.name === 'network.sockets' || finding.name === 'privilege.seccomp';
  return !isFilter || template.require.includes('seccomp');
}

/** What the template promises and is not so. */
export function brokenPromises(template: Template, findings: readonly Finding[]): Finding[] {
  return findings.filter((each) => each.state === 'broken' && isPromised(template, each));
}

/** The worst of them: one broken makes broken, one unknown unknown. */
export function worst(findings: readonly Finding[]): Finding['state'] {
  if (findings.some(({ state }) => state === 'broken')) return 'broken';
  return findings.length === 0 || findings.some(({ state }) => state === 'unknown') ? 'unknown' : 'holds';
}
