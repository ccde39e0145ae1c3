import * as z from 'zod';
import { DEFAULT_AUDIENCE, issuerName, KEY_KINDS, type KeyKind } from '../../shared/claims.ts';
import { type KeySetDocument, keySetDocument } from '../../shared/key-set.ts';
import type { Trust } from '../../shared/keys.ts';
import { tenantName } from '../../shared/principal.ts';
import { type DocumentSource, documentUrl } from './documents.ts';

/** 90 days for callers; a year for agents, whose tokens are worth nothing without their key. */
export const DEFAULT_MAX_LIFETIME_SECONDS = { callers: 7_776_000, agents: 31_622_400 } as const;

const entry = z
  .strictObject({
    kind: z.enum(KEY_KINDS),
    issuer: issuerName,
    audience: z.string().min(1).max(256).optional(),
    tenant: tenantName.optional(),
    tenant_claim: z.string().min(1).max(128).optional(),
    jwks: keySetDocument.optional(),
    jwks_file: z.string().min(1).max(4096).optional(),
    jwks_url: documentUrl.optional(),
    max_lifetime_seconds: z.int().min(60).max(315_360_000).optional(),
  })
  .refine((given) => (given.tenant === undefined) !== (given.tenant_claim === undefined), {
    error: 'set exactly one of tenant and tenant_claim',
  })
  .refine(
    (given) =>
      [given.jwks, given.jwks_file, given.jwks_url].filter((each) => each !== undefined).length === 1,
    {
      error: 'set exactly one of jwks, jwks_file and jwks_url',
    },
  );
type EntryInput = z.infer<typeof entry>;

/** One trusted issuer of one kind of keys. */
export type IssuerEntry = {
  readonly kind: KeyKind;
  readonly trust: Trust;
  readonly keys: DocumentSource | { inline: KeySetDocument };
};

/** The file `issuers.json`: who may issue keys, for which tenant. Callers' and agents' entries share nothing. */
export const issuersSchema = z
  .strictObject({ issuers: z.array(entry).min(1).max(1_000) })
  .superRefine(({ issuers }, context) => {
    const seen = new Map<string, KeyKind>();
    issuers.forEach((given, index) => {
      const refuse = (message: string) =>
        context.addIssue({ code: 'custom', path: ['issuers', index], message });
      const name = `${given.kind} ${given.issuer}`;
      if (seen.has(name)) refuse(`a second entry for ${given.kind} of this issuer`);
      seen.set(name, given.kind);
      for (const [what, value] of Object.entries(separated(given))) {
        if (value === undefined) continue;
        const other = seen.get(`${what} ${value}`);
        if (other !== undefined && other !== given.kind) refuse(`${what} serves callers and agents both`);
        seen.set(`${what} ${value}`, given.kind);
      }
    });
  })
  .transform(({ issuers }): readonly IssuerEntry[] => issuers.map(toEntry));

/** Whether callers of more than one tenant may hold keys. */
export function haveSeveralTenants(issuers: readonly IssuerEntry[]): boolean {
  const callers = issuers.filter(({ kind }) => kind === 'callers').map(({ trust }) => trust);
  return (
    callers.some(({ tenantClaim }) => tenantClaim !== undefined) ||
    new Set(callers.map(({ tenant }) => tenant)).size > 1
  );
}

/** What the two kinds must not share. */
function separated(given: EntryInput): Record<string, string | undefined> {
  return {
    audience: given.audience ?? DEFAULT_AUDIENCE[given.kind],
    jwks_file: given.jwks_file,
    jwks_url: given.jwks_url,
    jwks: given.jwks && JSON.stringify(given.jwks),
  };
}

function toEntry(given: EntryInput): IssuerEntry {
  return {
    kind: given.kind,
    trust: {
      issuer: given.issuer,
      audience: given.audience ?? DEFAULT_AUDIENCE[given.kind],
      tenant: given.tenant,
      tenantClaim: given.tenant_claim,
      maxLifetimeSeconds: given.max_lifetime_seconds ?? DEFAULT_MAX_LIFETIME_SECONDS[given.kind],
    },
    keys: toKeys(given),
  };
}

function toKeys(given: EntryInput): IssuerEntry['keys'] {
  if (given.jwks_file !== undefined) return { file: given.jwks_file };
  if (given.jwks_url !== undefined) return { url: given.jwks_url };
  return { inline: given.jwks ?? { keys: [] } };
}
