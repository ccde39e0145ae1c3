import { RUNNER_GRACE_MS } from '../../shared/limits.ts';
import type { ClusterDirectory, InstancePlace } from '../clusters/cluster-directory.ts';
import { COMEBACK_MS } from '../clusters/instance.ts';
import type { Timers } from '../gateway-deps.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { StatusAnswer } from '../link/status-asks.ts';

/** An answer to STATUS is in memory: what takes longer has met a link that stalls. */
export const STATUS_TIMEOUT_MS = 2_000;
/** A link that stalls is dead by silence in the end, and another takes its place: as many questions as fill that time. */
export const MAX_UNANSWERED = Math.ceil(COMEBACK_MS / STATUS_TIMEOUT_MS);
/** Whoever opens a stream at an agent may have to wait for a link, and is told at once then; an agent that says nothing says no more. */
export const OPEN_TIMEOUT_MS = COMEBACK_MS + STATUS_TIMEOUT_MS;
/** A cancellation is answered when the runner has confirmed the end, or has been given up: it has its grace twice. */
export const CANCEL_TIMEOUT_MS = 2 * RUNNER_GRACE_MS + STATUS_TIMEOUT_MS;

export type SisterDeps = { directory: ClusterDirectory; timers: Timers };
export type Whereabouts = InstancePlace & { executionId: string };

/** Another link to an instance whose link was lost, once there is one; undefined when none comes. */
export function sisterLink(
  { directory, timers }: SisterDeps,
  place: Whereabouts,
): Promise<GatewayLink | undefined> {
  const now = directory.linkTo(place);
  if (now) return Promise.resolve(now);
  return new Promise((resolve) => {
    const settle = (link: GatewayLink | undefined) => {
      timers.clearTimeout(timer);
      stop();
      resolve(link);
    };
    const timer = timers.setTimeout(() => settle(undefined), COMEBACK_MS);
    const stop = directory.onJoin((tenant, instance) => {
      const link =
        tenant === place.tenant && instance === place.instance ? directory.linkTo(place) : undefined;
      if (link) settle(link);
    });
  });
}

/** The same, joined in the turn in which it is used: one that was found in an earlier turn may be gone in this one. */
export async function joinedSister(
  deps: SisterDeps,
  whereabouts: Whereabouts,
  isWanted: () => boolean,
): Promise<GatewayLink | undefined> {
  for (;;) {
    const link = await sisterLink(deps, whereabouts);
    if (!link || link.joined || !isWanted()) return link;
  }
}

/**
 * What an instance knows of an execution whose link was lost, asked over another link; null where nobody can say. A link
 * that goes while it is asked, or does not answer, leaves the question to the one that was heard last: what cut or
 * stalled one link has often done the same to its sister. With `fence` the instance refuses from now on what it does not
 * know.
 */
export async function askSister(
  deps: SisterDeps,
  whereabouts: Whereabouts,
  fence: boolean,
  isWanted: () => boolean,
): Promise<StatusAnswer | null> {
  for (let unanswered = 0; unanswered < MAX_UNANSWERED && isWanted(); ) {
    const link = await sisterLink(deps, whereabouts);
    if (!link || !isWanted()) return null;
    const answer = await link.questions.status(whereabouts.executionId, fence, STATUS_TIMEOUT_MS);
    if (answer) return answer;
    if (link.joined) unanswered += 1;
  }
  return null;
}
