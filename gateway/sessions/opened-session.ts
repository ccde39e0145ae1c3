import { Failure } from '../../shared/errors.ts';
import { MAX_ATTEMPTS } from '../../shared/limits.ts';
import type { SessionResponse } from '../../shared/session-api.ts';
import type { Caller } from '../auth/caller.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { CANCEL_TIMEOUT_MS, sisterLink } from '../execution/sister-link.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { SessionBook } from './session-book.ts';

export type OpenedSessionDeps = Pick<GatewayDeps, 'timers'> & {
  directory: ClusterDirectory;
  book: SessionBook;
};

/** A session whose START went out: no more is known of it until it is asked about. */
export type OpenedSession = { readonly sessionId: string; readonly executionId: string };

/**
 * What its caller is told of a session that has begun. Its agent is waited for where its links went meanwhile: whoever is
 * told to try again would have two. Throws `agent_lost` with started yes where it does not come back.
 */
export async function describeOpened(
  { book, directory, timers }: OpenedSessionDeps,
  caller: Caller,
  { sessionId, executionId }: OpenedSession,
): Promise<SessionResponse> {
  const place = await book.find(caller, sessionId, null);
  const whereabouts = { ...place, tenant: caller.tenant, executionId };
  for (let asks = 1; ; asks += 1) {
    const link = await sisterLink({ directory, timers }, whereabouts);
    try {
      return await book.ask(caller, place, 'get');
    } catch (cause) {
      if (!(cause instanceof Failure) || !['no_agent', 'agent_lost'].includes(cause.code)) throw cause;
      if (link && asks < MAX_ATTEMPTS) continue;
      const detail = 'The agent was lost behind the beginning of the session; GET /v1/sessions names it.';
      throw new Failure('agent_lost', detail, { started: 'yes', cause });
    }
  }
}

/** Ends a session whose id nobody was told, as soon as its beginning is over. Its time ends it where that cannot be said. */
export async function endUntold(
  { book, directory }: OpenedSessionDeps,
  caller: Caller,
  { sessionId, executionId }: OpenedSession,
): Promise<void> {
  try {
    const place = await book.find(caller, sessionId, null);
    const link = directory.linkTo({ ...place, tenant: caller.tenant });
    await link?.questions.cancel(executionId, 'cancelled', CANCEL_TIMEOUT_MS);
    await book.end(caller, place);
  } catch {
    // It never began, or its agent is away.
  }
}
