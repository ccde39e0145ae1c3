import * as z from 'zod';
import { keyId } from './claims.ts';
import { type CryptoKey, generateEd25519, importEd25519, thumbprint } from './jose.ts';

const octets32 = z.string().regex(/^[A-Za-z0-9_-]{43}$/);

/** The public half of an Ed25519 pair, as it stands in a JWKS. */
export const publicJwk = z.object({
  kty: z.literal('OKP'),
  crv: z.literal('Ed25519'),
  x: octets32,
  kid: keyId,
  alg: z.enum(['EdDSA', 'Ed25519']).optional(),
  use: z.literal('sig').optional(),
});
export type PublicJwk = z.infer<typeof publicJwk>;

/** Both halves. */
export const privateJwk = publicJwk.extend({ d: octets32 });
export type PrivateJwk = z.infer<typeof privateJwk>;

/** A document of keys: those of other types and uses are passed over, a private half is a mistake. */
export const keySetDocument = z.object({
  keys: z
    .array(z.record(z.string(), z.unknown()))
    .max(256)
    .refine((keys) => keys.every((key) => !('d' in key) && !('k' in key)), 'holds a private or secret key'),
});
export type KeySetDocument = z.infer<typeof keySetDocument>;

/** `x` tells a key from a later one with the same kid. */
export type VerificationKey = { readonly kid: string; readonly x: string; readonly key: CryptoKey };
export type SigningKey = { readonly kid: string; readonly key: CryptoKey };
export type KeySet = ReadonlyMap<string, VerificationKey>;

/** A fresh Ed25519 pair; its kid is its thumbprint unless given. */
export async function generateKeyPair(kid?: string): Promise<PrivateJwk> {
  const jwk = await generateEd25519();
  return { ...jwk, kid: kid ?? (await thumbprint(jwk)), alg: 'EdDSA', use: 'sig' };
}

/** The half that may be shown. */
export function toPublicJwk({ kty, crv, x, kid, alg, use }: PublicJwk): PublicJwk {
  return { kty, crv, x, kid, ...(alg ? { alg } : {}), ...(use ? { use } : {}) };
}

/** The public JWKS of some pairs. */
export function toKeySetDocument(keys: readonly PublicJwk[]): { keys: PublicJwk[] } {
  return { keys: keys.map(toPublicJwk) };
}

/** Imports the Ed25519 keys of a JWKS. Throws where there are none, where two share a kid, or where one is private. */
export async function importKeySet(document: unknown): Promise<KeySet> {
  const { keys } = keySetDocument.parse(document);
  const set = new Map<string, VerificationKey>();
  for (const candidate of keys) {
    const jwk = publicJwk.safeParse(candidate);
    if (!jwk.success) continue;
    const { kid, x } = jwk.data;
    if (set.has(kid)) throw new Error(`two keys have the kid ${JSON.stringify(kid)}`);
    set.set(kid, { kid, x, key: await importEd25519(toPublicJwk(jwk.data)) });
  }
  if (set.size === 0) throw new Error('no Ed25519 key with a kid is in it');
  return set;
}

/** Imports a private JWK to sign with. Throws where it is none. */
export async function importSigningKey(jwk: unknown): Promise<SigningKey> {
  const parsed = privateJwk.parse(jwk);
  return { kid: parsed.kid, key: await importEd25519(parsed) };
}
