import type { IdParts } from '../../shared/ids.ts';
import type { SessionWork } from '../../shared/session-messages.ts';
import type { Ids } from '../gateway-deps.ts';

/** What an execution has to do with a session: it opens one, or it is work in one. */
export type SessionOrder =
  | { do: 'open'; ttlMs: number; idleMs: number | null; ceiling: number | null }
  | { do: 'work'; work: Exclude<SessionWork, { do: 'open' }>; cluster: string; instance: string };

/** START's `session`. An opened one gets its id here: it names the instance that takes it, and the template. */
export async function sessionWorkOf(
  order: SessionOrder,
  parts: Omit<IdParts, 'kind'>,
  ids: Ids,
): Promise<SessionWork> {
  if (order.do === 'work') return order.work;
  const { ttlMs, idleMs, ceiling } = order;
  const id = await ids.seal({ ...parts, kind: 's' });
  return { do: 'open', id, ttl_ms: ttlMs, idle_ms: idleMs, ceiling };
}
