import { randomUUID } from 'node:crypto';
import { Failure } from '../../shared/errors.ts';
import type { Template } from '../../shared/template.ts';
import type { Backend } from '../backends/backend.ts';
import type { Clock } from '../clock.ts';
import { createDeadline, orAborted } from '../deadline.ts';
import type { Log } from '../log.ts';
import type { Loan } from '../pool/lending.ts';
import type { Pool } from '../pool/pool.ts';
import { type Finding, ofSandbox, parseFindings, undecided } from './findings.ts';
import { type OwnSandbox, openOwnSandbox } from './own-sandbox.ts';
import { type Peer, parsePeer } from './peer.ts';
import {
  PROBE_TIMEOUT_MS,
  type ProbeRequest,
  type ProbeRunner,
  REACH_WAIT_MS,
  startProbe,
} from './probe-run.ts';
import { type CanaryTargets, locateTargets, TARGET_KINDS } from './targets.ts';

/** How long a canary waits for the other sandbox that it is not to meet, and for a pool that is busy. */
export const PEER_PATIENCE_MS = 20_000;
export const POOL_PATIENCE_MS = 120_000;
/** Past a probe's own time, a runner that says nothing is given up. */
const SILENCE_MS = 5_000;
/** Nobody's principal: those have a slash. */
const PRINCIPAL = 'podgate:canary';

/** No sandbox could be had to try anything in: nothing is known, and the pool says why. */
export class NoSandbox extends Failure {}

export type RoundDeps = { backend: Backend; targets: CanaryTargets; clock: Clock; log: Log };

export type Round = {
  readonly template: Template;
  /** Where a sandbox is borrowed that could not be made. */
  readonly pool: Pick<Pool, 'wait'>;
  readonly signal: AbortSignal;
  /** What the sandbox itself promises, as soon as it is known: the cluster's own network takes longer. */
  onSandbox(findings: readonly Finding[]): void;
};

/**
 * One canary of one template. A sandbox as callers have it tries what it must not be able to do, beside another one that
 * it must not meet; then one without the runner's filter tries the network, so that what the cluster itself refuses is
 * known too. Rejects with a Failure where no report came, `NoSandbox` where nothing could be tried.
 */
export async function runRound(deps: RoundDeps, round: Round): Promise<readonly Finding[]> {
  const { template, signal } = round;
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const mark = `canary-${randomUUID()}`;
  // Python's alone is wanted of them: what the template preloads would only cost time.
  const plain: Template = { ...template, preload: [] };
  const peer = openOwnSandbox(deps, plain, { unfiltered: true }, both);
  const own = costsSandbox(deps.backend, template) ? openOwnSandbox(deps, template, {}, both) : undefined;
  own?.catch(() => {});
  try {
    const met = await within(deps.clock, PEER_PATIENCE_MS, meet(deps, plain, peer, mark, both), both);
    const request = { targets: deps.targets, peer: met ?? null, mark, wait_ms: REACH_WAIT_MS };
    // A sandbox as callers have it is told nothing of its cluster.
    const targets = met ? locateTargets(deps.targets, met.whereabouts) : deps.targets;
    const probing = { request: { ...request, targets, mode: 'sandbox' as const }, signal: both };
    const sandbox = await (own ? probeOwn(deps, round, own, probing) : probeBorrowed(deps, round, probing));
    return [
      ...sandbox,
      ...(await probePolicy(deps, plain, { ...probing, request: { ...request, mode: 'network' } })),
    ];
  } finally {
    stop.abort(new Failure('cancelled', 'The canary is over.'));
    await Promise.all(
      [peer, own].map((opening) =>
        opening?.then(
          (made) => made[Symbol.asyncDispose](),
          () => {},
        ),
      ),
    );
  }
}

/** Where each execution costs its sandbox, a canary brings its own, so that no caller misses one. */
function costsSandbox(backend: Backend, template: Template): boolean {
  return !backend.freshPerExecution || template.reuse === 'reset';
}

type Probing = { request: ProbeRequest; signal: AbortSignal };

async function probeOwn(
  deps: RoundDeps,
  round: Round,
  opening: Promise<OwnSandbox>,
  probing: Probing,
): Promise<readonly Finding[]> {
  let made: OwnSandbox;
  try {
    made = await opening;
  } catch (cause) {
    probing.signal.throwIfAborted();
    deps.log('canary_borrows', { template: round.template.name, cause });
    // A quota that is used up, a cluster without room: the pool's are there to be tried all the same.
    return probeBorrowed(deps, round, probing);
  }
  await using sandbox = made;
  // Awaited here: the sandbox ends with this scope.
  return await probeSandbox(deps, round, { runner: sandbox.runner, streamId: 1 }, probing);
}

async function probeBorrowed(deps: RoundDeps, round: Round, probing: Probing): Promise<readonly Finding[]> {
  const loan = await borrow(deps.clock, round.pool, probing.signal);
  let verdict: 'reuse' | 'discard' = 'discard';
  try {
    const on = { runner: loan.runner, streamId: loan.nextStream() };
    const findings = await probeSandbox(deps, round, on, probing);
    // A sandbox that is reset would be kept for the canary.
    verdict = round.template.reuse === 'reset' ? 'discard' : 'reuse';
    return findings;
  } finally {
    void loan.release(verdict);
  }
}

/** Says what it found before the sandbox is given back: a cluster that dies now may take long to end it. */
async function probeSandbox(
  deps: RoundDeps,
  { template, onSandbox }: Round,
  on: On,
  probing: Probing,
): Promise<readonly Finding[]> {
  const found = await report(deps, template, on, probing);
  const findings = ofSandbox(found, template, Object.keys(probing.request.targets));
  onSandbox(findings);
  return findings;
}

async function borrow(clock: Clock, pool: Pick<Pool, 'wait'>, signal: AbortSignal): Promise<Loan> {
  const late = () => new Failure('at_capacity', 'No sandbox was free for the canary.');
  using deadline = createDeadline(clock, POOL_PATIENCE_MS, late, signal);
  try {
    return await pool.wait(PRINCIPAL, deadline.signal);
  } catch (cause) {
    signal.throwIfAborted();
    const { code, detail } = cause instanceof Failure ? cause : late();
    throw new NoSandbox(code, detail, { cause });
  }
}

type On = { runner: ProbeRunner; streamId: number };

/** Runs a probe to its end and reads what it found. */
async function report(
  { clock }: RoundDeps,
  template: Template,
  { runner, streamId }: On,
  { request, signal }: Probing,
): Promise<readonly Finding[]> {
  const late = () => new Failure('isolation_failed', 'The canary came to no end.');
  using deadline = createDeadline(clock, PROBE_TIMEOUT_MS + SILENCE_MS, late, signal);
  const run = startProbe(runner, streamId, { template, request });
  const text = await orAborted(run.answer, deadline.signal);
  await orAborted(run.over, deadline.signal);
  const findings = parseFindings(text);
  if (!findings) throw new Failure('isolation_failed', 'What the canary printed is no report.');
  return findings;
}

/** The network without the runner's filter. It concerns the cluster: what fails here fails nothing else. */
async function probePolicy(
  deps: RoundDeps,
  template: Template,
  probing: Probing & { request: { peer: Peer | null } },
): Promise<readonly Finding[]> {
  const kinds: string[] = TARGET_KINDS.filter((kind) => deps.targets[kind]?.length);
  if (probing.request.peer?.addresses.length) kinds.push('sandbox');
  if (kinds.length === 0) return [];
  const { signal } = probing;
  try {
    await using sandbox = await openOwnSandbox(deps, template, { unfiltered: true }, signal);
    return await report(deps, template, { runner: sandbox.runner, streamId: 1 }, probing);
  } catch (cause) {
    signal.throwIfAborted();
    const why = cause instanceof Failure ? cause.detail : 'The canary failed.';
    return kinds.map((kind) => undecided(`policy.${kind}`, why));
  }
}

/** Where another sandbox, without the filter so that it can listen, is to be met for as long as the round takes. */
async function meet(
  deps: RoundDeps,
  template: Template,
  opening: Promise<OwnSandbox>,
  mark: string,
  signal: AbortSignal,
): Promise<Peer> {
  try {
    const { runner } = await opening;
    const request: ProbeRequest = { mode: 'peer', targets: {}, peer: null, mark, wait_ms: 0 };
    const run = startProbe(runner, 1, { template, request });
    return parsePeer(await orAborted(run.answer, signal));
  } catch (cause) {
    const why = cause instanceof Failure ? (cause.cause ?? cause) : cause;
    if (!signal.aborted) deps.log('canary_without_peer', { template: template.name, cause: why });
    throw cause;
  }
}

/** What comes in time; a canary without a peer says so in its finding. */
async function within<T>(
  clock: Clock,
  waitMs: number,
  promise: Promise<T>,
  signal: AbortSignal,
): Promise<T | undefined> {
  using deadline = createDeadline(clock, waitMs, () => new Failure('deadline_exceeded', 'late'), signal);
  try {
    return await orAborted(promise, deadline.signal);
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}
