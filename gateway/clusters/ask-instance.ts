import { Failure } from '../../shared/errors.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { ClusterDirectory, InstancePlace } from './cluster-directory.ts';
import { NO_AGENT_RETRY_MS } from './placement.ts';

/** What an id stands for that an instance has. */
export type AtInstance = 'execution' | 'session' | 'program';

/**
 * Asks the instance behind an id. A link that goes while it is asked leaves the question to its sister: it may be asked
 * twice. Null where nobody said in time; throws `no_agent` where the instance has no link here.
 */
export async function askInstance<Answer>(
  directory: ClusterDirectory,
  { what, ...place }: InstancePlace & { what: AtInstance },
  question: (link: GatewayLink) => Promise<Answer | null>,
): Promise<Answer | null> {
  for (;;) {
    const link = directory.linkTo(place);
    if (!link) throw notHere(what);
    const answer = await question(link);
    if (answer || link.joined) return answer;
  }
}

export function notHere(what: AtInstance): Failure {
  const detail = `The agent that has this ${what} is not connected here.`;
  return new Failure('no_agent', detail, { retryAfterMs: NO_AGENT_RETRY_MS });
}
