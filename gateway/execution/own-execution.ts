import { Failure } from '../../shared/errors.ts';
import { type IdParts, MAX_ID_CHARS } from '../../shared/ids.ts';
import { type Caller, mayUseCluster, mayUseTemplate } from '../auth/caller.ts';
import type { GatewayDeps } from '../gateway-deps.ts';

/** The parts of the caller's own id, of what its key may reach; whatever else it is answers alike. */
export async function openOwn(ids: GatewayDeps['ids'], id: string, caller: Caller): Promise<IdParts> {
  const parts = await ids.open('x', id);
  const own = parts?.tenant === caller.tenant && parts.principalDigest === caller.principalDigest;
  if (!parts || !own || !mayUseCluster(caller, parts.cluster)) throw unknownExecution(id);
  // A gateway of an earlier version names none.
  if (parts.template !== undefined && !mayUseTemplate(caller, parts.template)) throw unknownExecution(id);
  if (parts.kind !== 'w' && !caller.scopes.includes('execute')) throw unknownExecution(id);
  return parts;
}

export function unknownExecution(id: string): Failure {
  return new Failure('not_found', `Execution '${id.slice(0, MAX_ID_CHARS)}' not found`);
}
