import * as z from 'zod';
import { clusterName } from './cluster-name.ts';
import { escapePart, MAX_SUB_BYTES } from './principal.ts';

/** What a key speaks to: callers' keys to the HTTP API, agents' tokens to the link. Neither passes for the other. */
export const KEY_KINDS = ['callers', 'agents'] as const;
export type KeyKind = (typeof KEY_KINDS)[number];
export const TYP = { callers: 'podgate-key+jwt', agents: 'podgate-agent+jwt' } as const;
export const DEFAULT_AUDIENCE = { callers: 'podgate', agents: 'podgate-agent' } as const;

export const SCOPES = ['execute', 'files', 'sessions', 'clusters'] as const;
export type Scope = (typeof SCOPES)[number];

/** Ceilings that a key may carry, in the units of their names; counts where they have none. */
export const LIMIT_NAMES = [
  'timeout_ms',
  'memory_mb',
  'concurrency',
  'requests_per_minute',
  'file_bytes',
  'file_count',
  'sessions',
] as const;
export type LimitName = (typeof LIMIT_NAMES)[number];
/** Null: no ceiling in the key. */
export type CallerLimits = Readonly<Record<LimitName, number | null>>;

/** A name, or the beginning of one with `*` at its end. `*` alone is all of the tenant's. */
export const namePattern = z
  .string()
  .regex(/^([a-z0-9-]{1,63}|[a-z0-9-]{0,62}\*)$/, 'use 1 to 63 of a-z, 0-9 and -, with * at the end only');
const namePatterns = z.array(namePattern).min(1).max(256);

/** True where one of the patterns is the name or, ending in `*`, its beginning. */
export function matchesName(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : pattern === name,
  );
}

/** An issuer's name, as in `iss`: visible ASCII, so that a line of a deny-list can hold it. */
export const issuerName = z.string().regex(/^[\x21-\x7e]{1,256}$/, 'use 1 to 256 visible ASCII characters');
/** A token's own id. */
export const tokenId = z.string().regex(/^[\x21-\x7e]{1,128}$/, 'use 1 to 128 visible ASCII characters');
export const keyId = z.string().regex(/^[\x21-\x7e]{1,128}$/, 'use 1 to 128 visible ASCII characters');
/** Who a token was made for; any well-formed text that fits a principal. */
export const subject = z
  .string()
  .min(1)
  .max(MAX_SUB_BYTES)
  .refine((sub) => sub.isWellFormed() && escapePart(sub).length <= MAX_SUB_BYTES, 'too long, or not Unicode');

const numericDate = z.number().min(0).max(8.64e12);
const registered = {
  iss: issuerName,
  aud: z.union([z.string().max(256), z.array(z.string().max(256)).min(1).max(16)]),
  sub: subject,
  jti: tokenId,
  iat: numericDate,
  exp: numericDate,
  nbf: numericDate.optional(),
};

const ceiling = z.int().min(0).optional();
const positive = z.int().min(1).optional();

/** Strict: a ceiling that this version does not know could not be held. */
const limits = z.strictObject({
  timeout_ms: positive,
  memory_mb: positive,
  concurrency: ceiling,
  requests_per_minute: ceiling,
  file_bytes: ceiling,
  file_count: ceiling,
  sessions: ceiling,
} satisfies Record<LimitName, z.ZodType>);

/** A caller's key. Absent `scope` allows nothing; absent `clusters` and `templates` leave all of the tenant's. */
export const callerClaims = z.object({
  ...registered,
  scope: z.string().max(256).optional(),
  clusters: namePatterns.optional(),
  default_cluster: clusterName.optional(),
  templates: namePatterns.optional(),
  limits: limits.optional(),
});
export type CallerClaims = z.infer<typeof callerClaims>;

/** The public half that an agent's token is bound to. Strict, so that a private half never slips in. */
export const boundJwk = z.strictObject({
  kty: z.literal('OKP'),
  crv: z.literal('Ed25519'),
  x: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
});

/** An agent's token: the clusters it may serve, and the key it must prove to hold. */
export const agentClaims = z.object({
  ...registered,
  clusters: namePatterns,
  cnf: z.object({ jwk: boundJwk }),
  /** Instances that may be linked at once with this token; absent: any number. */
  max_instances: z.int().min(1).optional(),
});
export type AgentClaims = z.infer<typeof agentClaims>;

export type ClaimsOf = { callers: CallerClaims; agents: AgentClaims };
export const CLAIMS = { callers: callerClaims, agents: agentClaims } as const;

/** The scopes a key names; unknown words are passed over, as they allow nothing. */
export function parseScopes(scope: string | undefined): readonly Scope[] {
  const words = new Set((scope ?? '').split(' '));
  return SCOPES.filter((name) => words.has(name));
}

/** Every ceiling of a key, null where it has none. */
export function fillLimits(given: CallerClaims['limits']): CallerLimits {
  return Object.fromEntries(LIMIT_NAMES.map((name) => [name, given?.[name] ?? null])) as CallerLimits;
}
