import { CLAIMS, type ClaimsOf, type KeyKind, TYP } from './claims.ts';
import { fromBase64Url, signCompact, toBase64Url, verifyCompact } from './jose.ts';
import type { SigningKey, VerificationKey } from './key-set.ts';
import { tenantName } from './principal.ts';
import { parseUniqueObject } from './unique-json.ts';

/** A token is refused above this before any of it is parsed. */
export const MAX_TOKEN_BYTES = 8_192;
/** How far an issuer's clock may be from ours. */
export const CLOCK_SKEW_SECONDS = 30;

/** Why a key was refused: for the log, never for its sender. */
export type Refusal =
  | 'too_large'
  | 'malformed'
  | 'wrong_alg'
  | 'wrong_typ'
  | 'no_kid'
  | 'unknown_kid'
  | 'bad_signature'
  | 'bad_claims'
  | 'wrong_issuer'
  | 'wrong_audience'
  | 'no_tenant'
  | 'issued_in_future'
  | 'not_yet_valid'
  | 'expired'
  | 'too_long_lived';

/** What one issuer is trusted for. Exactly one of `tenant` and `tenantClaim` is set. */
export type Trust = {
  issuer: string;
  audience: string;
  tenant?: string | undefined;
  /** Name of the claim that holds the tenant, for an issuer that serves many. */
  tenantClaim?: string | undefined;
  maxLifetimeSeconds: number;
};

export type VerifyOptions<Kind extends KeyKind> = {
  kind: Kind;
  trust: Trust;
  /** The issuer's key of that kid, from configuration. */
  findKey: (kid: string) => Promise<VerificationKey | undefined>;
  nowMs: number;
};

export type Accepted<Kind extends KeyKind> = {
  ok: true;
  claims: ClaimsOf[Kind];
  tenant: string;
  /** The key that signed. */
  signer: VerificationKey;
};
export type Refused = { ok: false; reason: Refusal };

/** Signs claims as a token of its kind. Throws ZodError where the claims would not be accepted. */
export async function signKey<Kind extends KeyKind>(
  kind: Kind,
  claims: ClaimsOf[Kind] & Record<string, unknown>,
  signingKey: SigningKey,
): Promise<string> {
  CLAIMS[kind].parse(claims);
  const token = await signCompact(
    JSON.stringify(claims),
    { typ: TYP[kind], kid: signingKey.kid },
    signingKey.key,
  );
  if (token.length > MAX_TOKEN_BYTES) throw new RangeError(`a token has at most ${MAX_TOKEN_BYTES} bytes`);
  return token;
}

/** A fresh `jti` or nonce: `bytes` random bytes in base64url. */
export function randomId(bytes = 16): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(bytes)));
}

/** What a token says of itself, unverified: to choose an issuer's entry by, to show, to revoke by. */
export type TokenParts = { header: Record<string, unknown>; claims: Record<string, unknown> };

/** Splits and decodes a token of at most `MAX_TOKEN_BYTES` without believing any of it. */
export function readToken(token: string): TokenParts | Refused {
  if (token.length > MAX_TOKEN_BYTES) return refuse('too_large');
  const segments = token.split('.');
  if (segments.length !== 3) return refuse('malformed');
  const decoded = segments.map(fromBase64Url);
  // jose itself is lenient: it takes a signature with blanks or padding.
  const [header, claims] = decoded.slice(0, 2).map((bytes) => bytes && parseUniqueObject(bytes));
  return header && claims && decoded[2] ? { header, claims } : refuse('malformed');
}

/**
 * Verifies a token against one issuer's entry. Algorithm, type, audience, lifetime and keys come from configuration;
 * the token only names its kid. The order is cheap and harmless checks, signature, claims, times.
 */
export async function verifyKey<Kind extends KeyKind>(
  token: string,
  { kind, trust, findKey, nowMs }: VerifyOptions<Kind>,
): Promise<Accepted<Kind> | Refused> {
  const parts = readToken(token);
  if ('ok' in parts) return parts;
  const { header } = parts;
  if (header.alg !== 'EdDSA') return refuse('wrong_alg');
  // No extension is understood here, so a token that calls one critical is refused (RFC 7515 section 4.1.11).
  if ('crit' in header || 'b64' in header) return refuse('malformed');
  if (header.typ !== TYP[kind]) return refuse('wrong_typ');
  if (typeof header.kid !== 'string' || header.kid === '') return refuse('no_kid');

  const signer = await findKey(header.kid);
  if (signer === undefined) return refuse('unknown_kid');
  const payload = await verifyCompact(token, signer.key);
  if (payload === null) return refuse('bad_signature');

  const raw = parseUniqueObject(payload);
  const parsed = CLAIMS[kind].safeParse(raw);
  if (raw === null || !parsed.success) return refuse('bad_claims');
  const claims = parsed.data as ClaimsOf[Kind];
  if (claims.iss !== trust.issuer) return refuse('wrong_issuer');
  if (![claims.aud].flat().includes(trust.audience)) return refuse('wrong_audience');
  const tenant = tenantName.safeParse(
    trust.tenantClaim === undefined ? trust.tenant : raw[trust.tenantClaim],
  );
  if (!tenant.success) return refuse('no_tenant');
  const late = refuseTimes(claims, trust.maxLifetimeSeconds, nowMs / 1000);
  return late ?? { ok: true, claims, tenant: tenant.data, signer };
}

function refuseTimes(
  { iat, nbf, exp }: { iat: number; nbf?: number | undefined; exp: number },
  maxLifetimeSeconds: number,
  now: number,
): Refused | null {
  if (iat > now + CLOCK_SKEW_SECONDS) return refuse('issued_in_future');
  if (nbf !== undefined && nbf > now + CLOCK_SKEW_SECONDS) return refuse('not_yet_valid');
  if (exp <= now - CLOCK_SKEW_SECONDS) return refuse('expired');
  if (exp - iat > maxLifetimeSeconds) return refuse('too_long_lived');
  return null;
}

function refuse(reason: Refusal): Refused {
  return { ok: false, reason };
}
