import type { KubeConfig, User } from './kube-config.ts';

/** What a user of a kubeconfig acts as beside a name, as the file has it. */
type Acting = { 'as-groups'?: unknown; 'as-uid'?: unknown; 'as-user-extra'?: unknown };
type ActingUser = User & { acting?: Acting };

/** The library knows `as` alone. Without the rest the server would judge by other rights than those that are written. */
export function adoptImpersonation(config: KubeConfig, raw: unknown): void {
  const { users = [] } = raw as { users?: { name: string; user?: Acting }[] };
  config.users = config.users.map((user) => {
    const acting = users.find(({ name }) => name === user.name)?.user;
    return acting ? { ...user, acting } : user;
  });
}

/** Groups, a uid or more are to be acted as, and nobody: whoever wrote that does not mean the user's own rights. */
export function actsAsNobody(user: ActingUser): boolean {
  return !user.impersonateUser && Object.keys(impersonationHeaders(user)).length > 0;
}

/** For each request, beside the name's own. */
export function impersonationHeaders({ acting = {} }: ActingUser): Record<string, string | string[]> {
  const { 'as-groups': groups, 'as-uid': uid, 'as-user-extra': extra } = acting;
  const headers: Record<string, string | string[]> = {};
  if (Array.isArray(groups) && groups.length > 0) headers['impersonate-group'] = groups.map(String);
  if (uid) headers['impersonate-uid'] = String(uid);
  for (const [key, values] of Object.entries(extra ?? {}))
    if (Array.isArray(values)) headers[`impersonate-extra-${encodeURIComponent(key)}`] = values.map(String);
  return headers;
}
