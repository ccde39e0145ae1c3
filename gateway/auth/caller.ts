import { type CallerLimits, matchesName, type Scope } from '../../shared/claims.ts';
import { Failure } from '../../shared/errors.ts';

/** Who a request comes from and what its key allows. Null patterns: all of the tenant's. */
export type Caller = {
  readonly kind: 'callers';
  readonly tenant: string;
  /** `tenant/sub`, or `tenant/sub/user` where `Podgate-User` named one; escaped (shared/principal.ts). */
  readonly principal: string;
  /** `digestPrincipal(principal)`: what ids carry. */
  readonly principalDigest: string;
  /** `tenant/sub` always. Ceilings count here: whoever holds a key may name any user, and must not gain by it. */
  readonly holder: string;
  readonly sub: string;
  readonly user: string | null;
  readonly jti: string;
  readonly kid: string;
  /** Public half of the signer's key, `x` of its JWK: another under the same `kid` is another key. */
  readonly signedBy: string;
  readonly issuer: string;
  readonly scopes: readonly Scope[];
  readonly clusters: readonly string[] | null;
  readonly defaultCluster: string | null;
  readonly templates: readonly string[] | null;
  readonly limits: CallerLimits;
  /** When the key stops being accepted: its `exp` and the skew. */
  readonly expiresAtMs: number;
};

/** An agent whose token and proof were accepted. */
export type AuthenticatedAgent = {
  readonly kind: 'agents';
  readonly tenant: string;
  /** Patterns of the clusters it may serve: check with `matchesName`. */
  readonly clusters: readonly string[];
  readonly sub: string;
  readonly jti: string;
  readonly kid: string;
  readonly signedBy: string;
  readonly issuer: string;
  /** RFC 7638, of the key that it proved to hold. */
  readonly thumbprint: string;
  /** Instances that may be linked at once with this token; null: any number. */
  readonly maxInstances: number | null;
  /** When the key stops being accepted: its `exp` and the skew. */
  readonly expiresAtMs: number;
};

/** Throws `forbidden` unless the key has one of the scopes. */
export function requireScope(caller: Caller, ...scopes: Scope[]): void {
  if (scopes.some((scope) => caller.scopes.includes(scope))) return;
  const cause = `no scope ${scopes.join(' or ')}`;
  throw new Failure('forbidden', 'The key does not allow this.', { cause });
}

/** Whether the key may use a cluster of its tenant. One that it may not answers like one that does not exist. */
export function mayUseCluster(caller: Caller, name: string): boolean {
  return caller.clusters === null || matchesName(caller.clusters, name);
}

/** Whether the key may use a template. */
export function mayUseTemplate(caller: Caller, name: string): boolean {
  return caller.templates === null || matchesName(caller.templates, name);
}
