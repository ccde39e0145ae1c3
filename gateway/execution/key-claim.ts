import { Failure } from '../../shared/errors.ts';
import { RECORD_TTL_MS } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { COMEBACK_MS } from '../clusters/instance.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { LinkQuestions } from '../link/link-questions.ts';
import { askSister, STATUS_TIMEOUT_MS } from './sister-link.ts';

/** How often one looks again whether another gateway has begun what a key stands for. */
export const CLAIM_POLL_MS = 250;
const RETRY_MS = 2_000;
/** What an agent remembers goes ten minutes after its end, a part of it at any time. */
const ROOM_RETRY_MS = 10_000;

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
  /** `tenant/sub`, whose share of each agent's room it takes. */
  holder: string;
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
/** What is left of the time that one may wait. */
type Patience = { leftMs: number };

/**
 * Asks every agent of the cluster, in one order for all gateways, to keep the key for this execution. Resolves to null
 * once all do, or to the execution that has the key. Rejects where that cannot be known, or the key is another
 * request's: nothing may begin then.
 */
export async function claimKey(deps: ClaimDeps, given: ClaimAsk): Promise<string | null> {
  let { replaces } = given;
  const patience = { leftMs: given.waitMs };
  for (;;) {
    const other = await askAll(deps, { ...given, replaces }, patience);
    if (!other?.execution_id || given.signal.aborted) return null;
    if (other.digest !== given.key.digest) {
      releaseKey(deps, given);
      throw new Failure('conflict', 'This Idempotency-Key was used for another request; use a new one.');
    }
    const hasBegun =
      isBegun(other.state) ||
      (patience.leftMs > 0
        ? await hasBegunElsewhere(deps, other.execution_id, given.tenant, patience)
        : await mayHaveBegun(deps, other.execution_id, given.signal));
    if (hasBegun) {
      releaseKey(deps, given);
      return other.execution_id;
    }
    // Its gateway is about to begin it; or is gone, and the fence holds that it never will.
    if (patience.leftMs <= 0) replaces = other.execution_id;
    else await pause(deps, patience);
  }
}

/** Whether an agent that may remember a key is away. Who has one waits for it, and not with a slot that others could use. */
export function isAwaited(directory: ClusterDirectory, tenant: string, cluster: string): boolean {
  return servingOf({ directory }, { tenant, cluster }).some(
    (instance) => !directory.linkTo({ tenant, instance, cluster }),
  );
}

/** Gives a key back whose execution will not begin. */
export function releaseKey({ directory }: ClaimDeps, given: Omit<ClaimAsk, 'waitMs' | 'signal'>): void {
  for (const instance of servingOf({ directory }, given))
    void directory.linkTo({ ...given, instance })?.questions.claim(bodyOf(given, true), STATUS_TIMEOUT_MS);
}

/** The first answer that names another execution; undefined where all keep the key for this one. */
async function askAll(deps: ClaimDeps, given: ClaimAsk, patience: Patience): Promise<Answer | undefined> {
  for (const instance of servingOf(deps, given)) {
    const answer = await askOne(deps, instance, given, patience);
    // What was ended meanwhile has given the key back to all.
    if (given.signal.aborted) return undefined;
    if (!answer) continue;
    if (answer.execution_id === null) throw noRoom();
    if (answer.execution_id !== given.executionId) return answer;
  }
  return undefined;
}

/** Undefined where there is nobody to answer, or nobody waits any more. */
async function askOne(
  deps: ClaimDeps,
  instance: string,
  given: ClaimAsk,
  patience: Patience,
): Promise<Answer | undefined> {
  for (;;) {
    const link = await linkOf(deps, instance, given, patience);
    if (!link || given.signal.aborted) return undefined;
    const answer = await link.questions.claim(bodyOf(given, false), STATUS_TIMEOUT_MS);
    if (answer) return answer;
    // A link that goes while it is asked leaves the question to the next, or to nobody where its agent has left.
    if (link.joined) throw unanswered();
  }
}

/**
 * An agent that was there a moment ago may be all who remembers the key: it is waited for, until it counts as gone. Nothing
 * where it does, or where nobody waits any more.
 */
async function linkOf(
  deps: ClaimDeps,
  instance: string,
  given: ClaimAsk,
  patience: Patience,
): Promise<GatewayLink | undefined> {
  for (;;) {
    const link = deps.directory.linkTo({ ...given, instance });
    if (link || given.signal.aborted || !servingOf(deps, given).includes(instance)) return link;
    if (patience.leftMs <= 0) throw unanswered();
    await pause(deps, patience, { tenant: given.tenant, instance });
  }
}

export function unanswered(): Failure {
  const detail = 'An agent of the cluster did not say whether it knows this key; try again.';
  return new Failure('no_agent', detail, { retryAfterMs: RETRY_MS });
}

function noRoom(): Failure {
  const detail = 'An agent of the cluster has no room to remember another Idempotency-Key; try again later.';
  return new Failure('at_capacity', detail, { retryAfterMs: ROOM_RETRY_MS });
}

/** Who keeps the key need not be who runs the execution: of that its own agent alone can tell, if it is there. */
async function hasBegunElsewhere(
  { ids, directory }: ClaimDeps,
  executionId: string,
  tenant: string,
  patience: Patience,
): Promise<boolean> {
  const parts = await ids.open('x', executionId);
  const link = parts && directory.linkTo({ ...parts, tenant });
  if (!link) return false;
  const answer = await link.questions.status(executionId, false, STATUS_TIMEOUT_MS);
  if (!answer) patience.leftMs -= STATUS_TIMEOUT_MS;
  return answer !== null && isBegun(answer.state);
}

/** Where its agent says that it will never begin, it may be replaced. Rejects where nobody can say. */
async function mayHaveBegun(deps: ClaimDeps, executionId: string, signal: AbortSignal): Promise<boolean> {
  const parts = await deps.ids.open('x', executionId);
  const answer = parts && (await askSister(deps, { ...parts, executionId }, true, () => !signal.aborted));
  if (!answer || answer.state === 'unknown') throw unknownKey();
  return answer.state !== 'fenced';
}

function isBegun(state: Answer['state']): boolean {
  return state !== 'unknown' && state !== 'fenced';
}

/** Nobody has said in time what became of the execution that a key stands for. */
export function unknownKey(): Failure {
  const detail = 'What this key stands for may or may not have run; its agent is gone.';
  return new Failure('maybe_started', detail, { started: 'unknown' });
}

function servingOf(
  { directory }: Pick<ClaimDeps, 'directory'>,
  { tenant, cluster }: Pick<ClaimAsk, 'tenant' | 'cluster'>,
): string[] {
  return directory.serving(tenant, cluster, COMEBACK_MS);
}

function bodyOf(
  { key, holder, executionId, replaces, keepMs }: Omit<ClaimAsk, 'waitMs' | 'signal'>,
  release: boolean,
): Parameters<LinkQuestions['claim']>[0] {
  return {
    key: key.id,
    digest: key.digest,
    execution_id: executionId,
    replaces,
    keep_ms: keepMs + RECORD_TTL_MS,
    release,
    holder,
  };
}

/** Until one looks again; or until that instance links, where one is waited for. */
function pause(
  { timers, directory }: ClaimDeps,
  patience: Patience,
  awaited?: { tenant: string; instance: string },
): Promise<void> {
  const ms = Math.min(CLAIM_POLL_MS, patience.leftMs);
  patience.leftMs -= CLAIM_POLL_MS;
  return new Promise((resolve) => {
    const end = () => {
      timers.clearTimeout(timer);
      stop();
      resolve();
    };
    const timer = timers.setTimeout(end, ms);
    const stop = directory.onJoin((tenant, instance) => {
      if (tenant === awaited?.tenant && instance === awaited.instance) end();
    });
  });
}
