import { matchesName } from '../../shared/claims.ts';
import { clusterName } from '../../shared/cluster-name.ts';
import { Failure } from '../../shared/errors.ts';
import type { Caller } from '../auth/caller.ts';
import { invalid } from './parse-json.ts';
import type { KeyedContext } from './route.ts';

/** The template of a request that names none. */
const DEFAULT_TEMPLATE = 'default';

/**
 * The cluster that a request names, in its body, path or header, else its key's own; null where any will do. Throws
 * `no_cluster` for what no cluster is called.
 */
export function askedCluster(
  asked: { cluster: string | null },
  { caller, request, pathCluster }: KeyedContext,
): string | null {
  const cluster =
    asked.cluster ?? pathCluster ?? request.headers.get('podgate-cluster') ?? caller.defaultCluster;
  if (cluster !== null && !clusterName.safeParse(cluster).success)
    throw new Failure('no_cluster', 'No cluster has such a name.');
  return cluster;
}

/** The template that a request names. A key that is made for one template means that one. */
export function askedTemplate({ template }: { template: string | null }, { templates }: Caller): string {
  if (template !== null) return template;
  const [only] = templates ?? [];
  if (templates === null || only === undefined || matchesName(templates, DEFAULT_TEMPLATE))
    return DEFAULT_TEMPLATE;
  return templates.length === 1 && !only.endsWith('*') ? only : DEFAULT_TEMPLATE;
}

/**
 * The timeout that a request names, in `raw` as it came. Throws `invalid_request` where that is above the key's ceiling;
 * the default is lowered to it.
 */
export function askedTimeoutMs(
  { timeout_ms }: { timeout_ms: number },
  raw: unknown,
  { limits }: Caller,
): number {
  const ceiling = limits.timeout_ms;
  if (ceiling === null || timeout_ms <= ceiling) return timeout_ms;
  if ((raw as { timeout_ms?: unknown }).timeout_ms === undefined) return ceiling;
  throw invalid([{ path: 'timeout_ms', message: `timeout_ms exceeds maximum of ${ceiling} ms` }]);
}
