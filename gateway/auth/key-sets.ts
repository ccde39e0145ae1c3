import type { KeyKind } from '../../shared/claims.ts';
import { importKeySet, type KeySet, type VerificationKey } from '../../shared/key-set.ts';
import { type AuthLog, describeSource, type ReadDocument } from './documents.ts';
import type { IssuerEntry } from './issuers.ts';
import { createKeptDocument, type KeptDocument } from './kept-document.ts';

/** How old the keys of a URL may grow while all is well; files are read at every refresh. */
export const JWKS_URL_MAX_AGE_MS = 300_000;
/** Keys with a kid that nobody knows make an issuer's JWKS be read again this often at most. */
export const UNKNOWN_KID_COOLDOWN_MS = { url: 30_000, file: 1_000 } as const;

export type KeySetsDeps = {
  issuers: readonly IssuerEntry[];
  readDocument: ReadDocument;
  /** Milliseconds that only go forward. */
  elapsed: () => number;
  log: AuthLog;
  onChange: () => void;
};

/** The trusted issuers and their keys of this moment. */
export type KeySets = {
  /** The entry of an issuer for one kind of keys. */
  entry(kind: KeyKind, issuer: string): IssuerEntry | undefined;
  /** The key now, without looking further. */
  current(kind: KeyKind, issuer: string, kid: string): VerificationKey | undefined;
  /** The key, after reading the JWKS again if the kid is unknown and the last reading is long enough ago. */
  find(kind: KeyKind, issuer: string, kid: string): Promise<VerificationKey | undefined>;
  /** Reads again what is due; never rejects. */
  refresh(): Promise<void>;
};

type IssuerKeys = { entry: IssuerEntry; document: KeptDocument<KeySet>; lastReadMs: number };

export function createKeySets({ issuers, readDocument, elapsed, log, onChange }: KeySetsDeps): KeySets {
  const byIssuer = new Map<string, IssuerKeys>();
  for (const entry of issuers) {
    const { keys } = entry;
    const document = createKeptDocument({
      what: 'jwks',
      from: 'inline' in keys ? `inline keys of ${entry.trust.issuer}` : describeSource(keys),
      read: async () => ('inline' in keys ? JSON.stringify(keys.inline) : readDocument(keys)),
      parse: (text) => importKeySet(JSON.parse(text)),
      onChange,
      log,
    });
    byIssuer.set(nameOf(entry.kind, entry.trust.issuer), {
      entry,
      document,
      lastReadMs: Number.NEGATIVE_INFINITY,
    });
  }

  async function read(issuerKeys: IssuerKeys): Promise<void> {
    issuerKeys.lastReadMs = elapsed();
    await issuerKeys.document.refresh();
  }

  function isDue({ entry, document, lastReadMs }: IssuerKeys): boolean {
    if (document.value === undefined) return true;
    if ('inline' in entry.keys) return false;
    return 'file' in entry.keys || elapsed() - lastReadMs >= JWKS_URL_MAX_AGE_MS;
  }

  function current(kind: KeyKind, issuer: string, kid: string): VerificationKey | undefined {
    return byIssuer.get(nameOf(kind, issuer))?.document.value?.get(kid);
  }

  return {
    entry: (kind, issuer) => byIssuer.get(nameOf(kind, issuer))?.entry,
    current,
    async find(kind, issuer, kid) {
      const known = current(kind, issuer, kid);
      const issuerKeys = byIssuer.get(nameOf(kind, issuer));
      if (known !== undefined || issuerKeys === undefined) return known;
      const cooldownMs = UNKNOWN_KID_COOLDOWN_MS['file' in issuerKeys.entry.keys ? 'file' : 'url'];
      // Within the cooldown a reading may still be under way: its outcome is waited for, none is added.
      if (elapsed() - issuerKeys.lastReadMs >= cooldownMs) await read(issuerKeys);
      else await issuerKeys.document.settled();
      return current(kind, issuer, kid);
    },
    async refresh() {
      await Promise.all([...byIssuer.values()].filter(isDue).map(read));
    },
  };
}

/** Issuers' names hold no space. */
function nameOf(kind: KeyKind, issuer: string): string {
  return `${kind} ${issuer}`;
}
