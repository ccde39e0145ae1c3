import {
  base64url,
  CompactEncrypt,
  CompactSign,
  type CryptoKey,
  calculateJwkThumbprint,
  compactDecrypt,
  compactVerify,
  exportJWK,
  generateKeyPair,
  importJWK,
} from 'jose';

// The one file that imports jose. Algorithms are constants of this file, so that no token and no configuration chooses one.
const SIGNING = 'EdDSA';
const CURVE = 'Ed25519';
const KEY_MANAGEMENT = 'dir';
const CONTENT_ENCRYPTION = 'A256GCM';

export type { CryptoKey };
export type SignedHeader = { typ: string; kid: string };
export type SealedHeader = { alg: typeof KEY_MANAGEMENT; enc: typeof CONTENT_ENCRYPTION; kid: string };
/** An Ed25519 key as a JWK; `d` only in the private half. */
export type Ed25519Jwk = { kty: 'OKP'; crv: 'Ed25519'; x: string; d?: string | undefined };

const encoder = new TextEncoder();

/** Base64url without padding. */
export function toBase64Url(bytes: Uint8Array | string): string {
  return base64url.encode(bytes);
}

/** The bytes of canonical base64url, or null: other spellings of the same bytes (padding, spaces, spare bits) are not taken. */
export function fromBase64Url(text: string): Uint8Array | null {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) return null;
  try {
    const bytes = base64url.decode(text);
    return base64url.encode(bytes) === text ? bytes : null;
  } catch {
    return null;
  }
}

/** A fresh Ed25519 pair as a private JWK (its public half is the same without `d`). */
export async function generateEd25519(): Promise<Ed25519Jwk & { d: string }> {
  const { privateKey } = await generateKeyPair(SIGNING, { crv: CURVE, extractable: true });
  const { x, d } = await exportJWK(privateKey);
  if (x === undefined || d === undefined) throw new Error('the key pair has no x or d');
  return { kty: 'OKP', crv: CURVE, x, d };
}

/** Imports one half, not extractable: private where the JWK has `d`. Throws where the JWK is no Ed25519 key. */
export async function importEd25519(jwk: Ed25519Jwk): Promise<CryptoKey> {
  const { kty, crv, x, d } = jwk;
  const key = await importJWK({ kty, crv, x, ...(d === undefined ? {} : { d }) }, SIGNING, {
    extractable: false,
  });
  if (key instanceof Uint8Array) throw new TypeError('not an Ed25519 key');
  return key;
}

/** RFC 7638 thumbprint, SHA-256. */
export function thumbprint({ kty, crv, x }: Ed25519Jwk): Promise<string> {
  return calculateJwkThumbprint({ kty, crv, x });
}

/** A JWS in compact form, alg EdDSA. */
export function signCompact(payload: string, header: SignedHeader, key: CryptoKey): Promise<string> {
  return new CompactSign(encoder.encode(payload)).setProtectedHeader({ alg: SIGNING, ...header }).sign(key);
}

/** The payload of a JWS that `key` signed with EdDSA, else null. */
export async function verifyCompact(token: string, key: CryptoKey): Promise<Uint8Array | null> {
  try {
    const { payload } = await compactVerify(token, key, { algorithms: [SIGNING] });
    return payload;
  } catch {
    return null;
  }
}

/** A JWE in compact form, `dir` and A256GCM, and exactly this header. */
export function encryptCompact(plaintext: Uint8Array, kid: string, key: CryptoKey): Promise<string> {
  return new CompactEncrypt(plaintext).setProtectedHeader(sealedHeader(kid)).encrypt(key);
}

/** The header that `encryptCompact` writes. */
export function sealedHeader(kid: string): SealedHeader {
  return { alg: KEY_MANAGEMENT, enc: CONTENT_ENCRYPTION, kid };
}

/** The plaintext of a JWE that `key` sealed, else null. */
export async function decryptCompact(text: string, key: CryptoKey): Promise<Uint8Array | null> {
  try {
    const { plaintext } = await compactDecrypt(text, key, {
      keyManagementAlgorithms: [KEY_MANAGEMENT],
      contentEncryptionAlgorithms: [CONTENT_ENCRYPTION],
    });
    return plaintext;
  } catch {
    return null;
  }
}
