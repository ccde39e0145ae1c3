import { Failure } from '../../shared/errors.ts';
import { RECORD_TTL_MS } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { LinkQuestions } from '../link/link-questions.ts';
import { askSister, STATUS_TIMEOUT_MS } from './sister-link.ts';

/** How often one looks again whether another gateway has begun what a key stands for. */
export const CLAIM_POLL_MS = 250;
const RETRY_MS = 2_000;

/** The key of one execution, as agents are asked about it. */
export type KeyOrder = {
  /** A digest of principal and `Idempotency-Key`. */
  readonly id: string;
  /** Of all that was asked for with it. */
  readonly digest: string;
  /** Another gateway has begun it. */
  found(executionId: string): void;
};

export type ClaimDeps = Pick<GatewayDeps, 'timers' | 'ids'> & { directory: ClusterDirectory };

export type ClaimAsk = {
  tenant: string;
  cluster: string;
  executionId: string;
  key: KeyOrder;
  /** An earlier attempt's execution, which surely did not begin. */
  replaces: string | null;
  keepMs: number;
  /** How long one may wait for another gateway to begin it. */
  waitMs: number;
  signal: AbortSignal;
};

type Answer = FromAgent['CLAIM'];

/**
 * Asks every agent of the cluster, in one order for all gateways, to keep the key for this execution. Resolves to null
 * once all do, or to the execution that has the key. Rejects where that cannot be known, or the key is another
 * request's: nothing may begin then.
 */
export async function claimKey(deps: ClaimDeps, given: ClaimAsk): Promise<string | null> {
  let { replaces, waitMs } = given;
  for (;;) {
    const other = await askAll(deps, { ...given, replaces });
    if (given.signal.aborted) releaseKey(deps, given);
    if (!other?.execution_id || given.signal.aborted) return null;
    if (other.digest !== given.key.digest) {
      releaseKey(deps, given);
      throw new Failure('conflict', 'This Idempotency-Key was used for another request; use a new one.');
    }
    const hasBegun = other.state !== 'unknown' && other.state !== 'fenced';
    if (hasBegun || (waitMs <= 0 && (await mayHaveBegun(deps, other.execution_id, given.signal)))) {
      releaseKey(deps, given);
      return other.execution_id;
    }
    // Its gateway is about to begin it; or is gone, and the fence holds that it never will.
    if (waitMs <= 0) replaces = other.execution_id;
    else await pause(deps, Math.min(CLAIM_POLL_MS, waitMs));
    waitMs -= CLAIM_POLL_MS;
  }
}

/** Gives a key back whose execution will not begin. */
export function releaseKey({ directory }: ClaimDeps, given: Omit<ClaimAsk, 'waitMs' | 'signal'>): void {
  for (const instance of instancesOf(directory, given))
    void directory.linkTo(given.tenant, instance)?.questions.claim(bodyOf(given, true), STATUS_TIMEOUT_MS);
}

/** The first answer that names another execution; undefined where all keep the key for this one. */
async function askAll({ directory }: ClaimDeps, given: ClaimAsk): Promise<Answer | undefined> {
  for (const instance of instancesOf(directory, given)) {
    const answer = await directory
      .linkTo(given.tenant, instance)
      ?.questions.claim(bodyOf(given, false), STATUS_TIMEOUT_MS);
    if (!answer?.execution_id)
      throw new Failure(
        'no_agent',
        'An agent of the cluster did not say whether it knows this key; try again.',
        {
          retryAfterMs: RETRY_MS,
        },
      );
    if (answer.execution_id !== given.executionId) return answer;
  }
  return undefined;
}

/** Where its agent says that it will never begin, it may be replaced. Rejects where nobody can say. */
async function mayHaveBegun(deps: ClaimDeps, executionId: string, signal: AbortSignal): Promise<boolean> {
  const parts = await deps.ids.open('x', executionId);
  const answer = parts && (await askSister(deps, { ...parts, executionId }, true, () => !signal.aborted));
  if (!answer || answer.state === 'unknown')
    throw new Failure(
      'maybe_started',
      'What this key stands for may or may not have run; its agent is gone.',
      {
        started: 'unknown',
      },
    );
  return answer.state !== 'fenced';
}

function instancesOf(
  directory: ClusterDirectory,
  { tenant, cluster }: { tenant: string; cluster: string },
): string[] {
  return [...(directory.cluster(tenant, cluster)?.instances ?? [])].map(({ name }) => name).sort();
}

function bodyOf(
  { key, executionId, replaces, keepMs }: Omit<ClaimAsk, 'waitMs' | 'signal'>,
  release: boolean,
): Parameters<LinkQuestions['claim']>[0] {
  return {
    key: key.id,
    digest: key.digest,
    execution_id: executionId,
    replaces,
    keep_ms: keepMs + RECORD_TTL_MS,
    release,
  };
}

function pause({ timers }: ClaimDeps, ms: number): Promise<void> {
  return new Promise((resolve) => void timers.setTimeout(resolve, ms));
}
