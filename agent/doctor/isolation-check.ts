import { Failure } from '../../shared/errors.ts';
import type { Template } from '../../shared/template.ts';
import { type RoundDeps, runRound } from '../canary/canary-round.ts';
import { brokenPromises, type Finding, isPolicy, worst } from '../canary/findings.ts';
import type { Check } from './check.ts';

/** Runs one canary, and says of its network twice what it found: what the filter holds, and what the cluster itself does. */
export async function* checkIsolation(
  deps: RoundDeps,
  { template, signal }: { template: Template; signal: AbortSignal },
): AsyncGenerator<Check> {
  const none = new Failure('at_capacity', 'No sandbox could be made for the canary.');
  // There is no pool here to borrow from.
  const pool = { wait: () => Promise.reject(none) };
  let findings: readonly Finding[];
  try {
    findings = await runRound(deps, { template, pool, signal, onSandbox: () => {} });
  } catch (cause) {
    signal.throwIfAborted();
    if (!(cause instanceof Failure)) throw cause;
    yield { name: 'isolation', state: 'fail', detail: `${template.name}: ${cause.detail}` };
    return;
  }
  yield ofSandbox(
    template,
    findings.filter((each) => !isPolicy(each)),
  );
  yield ofPolicy(template, findings.filter(isPolicy));
}

function ofSandbox(template: Template, findings: readonly Finding[]): Check {
  const broken = brokenPromises(template, findings);
  const open = findings.filter(({ state }) => state !== 'holds');
  const detail =
    open.length === 0
      ? `${template.name}: all ${findings.length} promises hold`
      : `${template.name}: ${open.length} of ${findings.length} promises are not proven`;
  const state = broken.length > 0 ? 'fail' : open.length > 0 ? 'warn' : 'ok';
  return { name: 'isolation', state, detail, advice: open.map(lineOf) };
}

function ofPolicy(template: Template, findings: readonly Finding[]): Check {
  const name = 'network policy';
  if (findings.length === 0)
    return { name, state: 'unknown', detail: 'PODGATE_CANARY_TARGETS names nothing to try' };
  const open = findings.filter(({ state }) => state !== 'holds');
  const tried = findings.map((each) => each.name.replace(/^policy\./, '')).join(', ');
  if (worst(findings) === 'holds')
    return { name, state: 'ok', detail: `the cluster's network refuses by itself: ${tried}` };
  if (worst(findings) === 'unknown')
    return { name, state: 'unknown', detail: 'not all could be told:', advice: open.map(lineOf) };
  return {
    name,
    state: template.require.includes('network_policy') ? 'fail' : 'warn',
    detail: "the cluster's network refuses nothing by itself; the runner's filter is all that holds",
    advice: [
      ...open.map(lineOf),
      'Apply manifests/sandbox/network-policy.yaml, and use a network plugin that enforces policies.',
    ],
  };
}

function lineOf({ name, state, detail }: Finding): string {
  return `${name}: ${state}. ${detail}`;
}
