import { createHmac } from 'node:crypto';
import type { KeyKind } from '../../shared/claims.ts';
import { DEFAULT_AUDIENCE, TYP } from '../../shared/claims.ts';
import { generateKeyPair, type PublicJwk, toKeySetDocument } from '../../shared/key-set.ts';

export type Json = Record<string, unknown>;

/** An issuer of keys that also signs what no honest one would. It shares no code with what it is meant to deceive. */
export type KeyIssuer = {
  readonly jwk: PublicJwk;
  readonly jwks: { keys: PublicJwk[] };
  readonly issuer: string;
  readonly kind: KeyKind;
  /** The claims of a good key at that time, with changes; a member that is undefined is left out. */
  claims(changes?: Json): Json;
  /** A token, good unless changed. */
  sign(changes?: { header?: Json; claims?: Json }): Promise<string>;
  /** Signs exactly these texts as header and payload. */
  signRaw(header: string, payload: string): Promise<string>;
};

export const NOW_MS = 1_800_000_000_000;
export const NOW = NOW_MS / 1000;

export async function createKeyIssuer(options: {
  kind?: KeyKind;
  issuer?: string;
  kid?: string;
  claims?: Json;
}): Promise<KeyIssuer> {
  const { kind = 'callers', issuer = `issuer-of-${kind}`, kid, claims: base = {} } = options;
  const pair = await generateKeyPair(kid);
  const key = await crypto.subtle.importKey(
    'jwk',
    { kty: 'OKP', crv: 'Ed25519', x: pair.x, d: pair.d },
    'Ed25519',
    false,
    ['sign'],
  );
  const self: KeyIssuer = {
    jwk: pair,
    jwks: toKeySetDocument([pair]),
    issuer,
    kind,
    claims: (changes = {}) => ({
      iss: issuer,
      aud: DEFAULT_AUDIENCE[kind],
      sub: 'alice',
      jti: 'token-1',
      iat: NOW,
      exp: NOW + 3600,
      ...base,
      ...changes,
    }),
    sign: ({ header = {}, claims = {} } = {}) =>
      self.signRaw(
        JSON.stringify({ alg: 'EdDSA', typ: TYP[kind], kid: pair.kid, ...header }),
        JSON.stringify(self.claims(claims)),
      ),
    async signRaw(header, payload) {
      const input = signingInput(header, payload);
      const signature = await crypto.subtle.sign('Ed25519', key, new TextEncoder().encode(input));
      return `${input}.${Buffer.from(signature).toString('base64url')}`;
    },
  };
  return self;
}

/** The classic forgery: the public key as the secret of an HMAC, in every spelling of it that a verifier might hold. */
export function signHmac(header: Json, claims: Json, secret: Uint8Array | string): string {
  const input = signingInput(JSON.stringify(header), JSON.stringify(claims));
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
}

export function signingInput(header: string, payload: string): string {
  return [header, payload].map((part) => Buffer.from(part).toString('base64url')).join('.');
}
