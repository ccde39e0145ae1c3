import * as z from 'zod';
import { clusterName } from './cluster-name.ts';
import {
  type CryptoKey,
  decryptCompact,
  encryptCompact,
  fromBase64Url,
  sealedHeader,
  toBase64Url,
} from './jose.ts';
import { tenantName } from './principal.ts';
import { parseUniqueObject } from './unique-json.ts';

/** Longest id that is looked at; the longest that is made stays well below. */
export const MAX_ID_CHARS = 1_024;
const NONCE_BYTES = 16;

/**
 * Keys of execution and session ids: the first seals, all open. To rotate, put a new one first and drop the old one
 * when its ids are gone. A256GCM with random IVs wants a new key before 2^32 ids.
 */
export const keyringDocument = z.object({
  keys: z
    .array(
      z.object({
        kty: z.literal('oct'),
        kid: z.string().regex(/^[A-Za-z0-9_-]{1,32}$/, 'use 1 to 32 of A-Z, a-z, 0-9, underscore and -'),
        k: z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'use 32 bytes in base64url'),
      }),
    )
    .min(1)
    .max(16)
    .refine((keys) => new Set(keys.map((key) => key.kid)).size === keys.length, 'two keys have the same kid'),
});
export type KeyringDocument = z.infer<typeof keyringDocument>;

type SealingKey = { kid: string; key: CryptoKey };
export type Keyring = {
  readonly first: SealingKey;
  /** By the encoded header, which a token must have to the letter. */
  readonly byHeader: ReadonlyMap<string, SealingKey>;
};

const sealed = z.strictObject({
  v: z.literal(1),
  k: z.enum(['x', 'w', 's']),
  t: tenantName,
  p: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  c: clusterName,
  i: z.string().regex(/^[A-Za-z0-9_-]{8,64}$/),
  n: z.string().regex(/^[A-Za-z0-9_-]{22}$/),
  m: z
    .string()
    .regex(/^[a-z0-9-]{1,63}$/)
    .optional(),
});

/** `x`: an execution, `w`: one that belongs to a session, `s`: a session. */
export type IdKind = 'x' | 'w' | 's';
/** What an id is asked to be: `x` is any execution. */
export type IdWanted = 'x' | 's';
/** What an id carries: enough for any replica to route by, nothing for its holder to read. */
export type IdParts = {
  kind: IdKind;
  tenant: string;
  /** `digestPrincipal` of the principal that the id belongs to. */
  principalDigest: string;
  cluster: string;
  instance: string;
  /** What its sandbox was made by. */
  template?: string;
};

/** A fresh keyring of one key, as it is kept in a file. It is a secret. */
export function generateKeyring(kid: string): KeyringDocument {
  return { keys: [{ kty: 'oct', kid, k: toBase64Url(crypto.getRandomValues(new Uint8Array(32))) }] };
}

/** Imports a keyring once, for all ids to come. Throws ZodError where the document is none. */
export async function importKeyring(document: unknown): Promise<Keyring> {
  const { keys } = keyringDocument.parse(document);
  const imported = await Promise.all(keys.map(async ({ kid, k }) => ({ kid, key: await importSecret(k) })));
  const [first] = imported;
  if (first === undefined) throw new Error('a keyring has at least one key');
  const byHeader = new Map(
    imported.map((entry) => [toBase64Url(JSON.stringify(sealedHeader(entry.kid))), entry]),
  );
  return { first, byHeader };
}

/** A compact JWE of `plaintext`, as jose's `encryptCompact` makes it. A platform may have a quicker way to the same text. */
export type EncryptCompact = (plaintext: Uint8Array, kid: string, key: CryptoKey) => string | Promise<string>;

/** Seals an id under the keyring's first key; two ids of the same parts differ. Throws ZodError for parts out of bounds. */
export async function sealId(
  keyring: Keyring,
  parts: IdParts,
  encrypt: EncryptCompact = encryptCompact,
): Promise<string> {
  const n = toBase64Url(crypto.getRandomValues(new Uint8Array(NONCE_BYTES)));
  const { kind: k, tenant: t, principalDigest: p, cluster: c, instance: i, template: m } = parts;
  const plaintext = JSON.stringify(sealed.parse({ v: 1, k, t, p, c, i, n, m }));
  return encrypt(new TextEncoder().encode(plaintext), keyring.first.kid, keyring.first.key);
}

/** Destinations that an id is kept ready for. */
export const MAX_READY_IDS = 1_024;

/**
 * Seals as `sealId` does, and keeps one id ready for each destination that was asked for: whoever asks again does not
 * wait for the cipher. `defer` runs work once what is under way is done. The least recently used give way.
 */
export function createIdSealer(
  keyring: Keyring,
  defer: (work: () => void) => void,
  encrypt: EncryptCompact = encryptCompact,
): (parts: IdParts) => Promise<string> {
  const ready = new Map<string, string>();
  const underWay = new Set<string>();

  async function prepare(destination: string, parts: IdParts): Promise<void> {
    underWay.delete(destination);
    const id = await sealId(keyring, parts, encrypt);
    ready.set(destination, id);
    if (ready.size > MAX_READY_IDS) ready.delete(ready.keys().next().value as string);
  }

  return async (parts) => {
    const { kind, tenant, principalDigest, cluster, instance, template } = parts;
    const destination = [kind, tenant, principalDigest, cluster, instance, template].join(' ');
    const id = ready.get(destination) ?? (await sealId(keyring, parts, encrypt));
    ready.delete(destination);
    if (!underWay.has(destination)) {
      underWay.add(destination);
      // Parts that sealed once seal again.
      defer(() => void prepare(destination, parts));
    }
    return id;
  };
}

/** The parts of an id of this keyring that is what is wanted, or null for anything else, whatever is wrong with it. */
export async function openId(keyring: Keyring, wanted: IdWanted, text: string): Promise<IdParts | null> {
  if (text.length > MAX_ID_CHARS) return null;
  const [header = '', encryptedKey, ...rest] = text.split('.');
  const entry = keyring.byHeader.get(header);
  if (entry === undefined || encryptedKey !== '' || rest.length !== 3) return null;
  // One id, one text: spare bits of base64url would give it others.
  if (rest.some((segment) => fromBase64Url(segment) === null)) return null;
  const plaintext = await decryptCompact(text, entry.key);
  const parsed = plaintext === null ? undefined : sealed.safeParse(parseUniqueObject(plaintext));
  if (!parsed?.success || (parsed.data.k === 's') !== (wanted === 's')) return null;
  const { k, t, p, c, i, m } = parsed.data;
  return { kind: k, tenant: t, principalDigest: p, cluster: c, instance: i, ...(m && { template: m }) };
}

async function importSecret(k: string): Promise<CryptoKey> {
  const bytes = fromBase64Url(k);
  if (bytes?.length !== 32) throw new RangeError('a key of the keyring is 32 bytes in base64url');
  // Extractable, since a platform's own cipher takes it as another kind of object.
  return crypto.subtle.importKey('raw', new Uint8Array(bytes), 'AES-GCM', true, ['encrypt', 'decrypt']);
}
