import { type CryptoKey, type Ed25519Jwk, fromBase64Url, importEd25519, toBase64Url } from './jose.ts';

const LABEL = 'podgate-link-v1';
const encoder = new TextEncoder();

/** What an agent signs to join (shared/protocol.md 5.2). */
export type ProofParts = {
  /** The gateway's, of this very socket. */
  nonce: string;
  /** The gateway's origin as the agent dialled it, such as `https://podgate.example`. */
  origin: string;
  instance: string;
  timeMs: number;
};

/** Signs the proof of possession, base64url. `key` is the private half of the token's `cnf.jwk`. */
export async function signProof(key: CryptoKey, parts: ProofParts): Promise<string> {
  return toBase64Url(new Uint8Array(await crypto.subtle.sign('Ed25519', key, proofBytes(parts))));
}

/** True where the private half of `jwk` signed exactly these parts. */
export async function verifyProof(jwk: Ed25519Jwk, parts: ProofParts, signature: string): Promise<boolean> {
  const bytes = fromBase64Url(signature);
  if (bytes?.length !== 64) return false;
  try {
    const key = await importEd25519({ kty: jwk.kty, crv: jwk.crv, x: jwk.x });
    return await crypto.subtle.verify('Ed25519', key, new Uint8Array(bytes), proofBytes(parts));
  } catch {
    return false;
  }
}

function proofBytes({ nonce, origin, instance, timeMs }: ProofParts): Uint8Array<ArrayBuffer> {
  const lines = [LABEL, nonce, origin, instance, String(timeMs)];
  // A line feed inside a part could move a border between two of them.
  if (lines.some((line) => line.includes('\n')))
    throw new RangeError('a part of the proof holds a line feed');
  if (!Number.isSafeInteger(timeMs) || timeMs < 0)
    throw new RangeError('timeMs is a whole number of milliseconds');
  return encoder.encode(lines.join('\n'));
}

/** The origin that both sides write into the proof: scheme as of HTTP, host in lower case, no default port. Throws for a non-URL. */
export function toOrigin(url: string): string {
  const { protocol, host } = new URL(url);
  const scheme = { 'ws:': 'http:', 'wss:': 'https:' }[protocol] ?? protocol;
  if (scheme !== 'http:' && scheme !== 'https:')
    throw new TypeError('an origin starts with http:// or https://');
  return new URL(`${scheme}//${host}`).origin;
}
