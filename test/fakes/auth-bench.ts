import {
  type Authenticator,
  type AuthenticatorDeps,
  createAuthenticator,
} from '../../gateway/auth/authenticator.ts';
import type { AuthLogEntry, DocumentSource } from '../../gateway/auth/documents.ts';
import { issuersSchema } from '../../gateway/auth/issuers.ts';
import { type Json, type KeyIssuer, NOW_MS } from './key-issuer.ts';

/** An authenticator with a clock, documents and a log that a test holds. */
export type AuthBench = {
  readonly authenticator: Authenticator;
  readonly log: AuthLogEntry[];
  /** Files and URLs; one that is missing cannot be read. */
  readonly documents: Map<string, string>;
  /** Every reading so far, by name. */
  readonly reads: string[];
  /** Resolves readings one by one when set. */
  hold: Promise<void> | undefined;
  nowMs: number;
  readonly elapsedMs: number;
  /** The reasons that the log gives, in order. */
  reasons(): unknown[];
};

export const ORIGIN = 'https://gate.example';

export type IssuerSetup = { issuer: KeyIssuer; entry?: Json };

/** `issuers` are trusted with inline keys and the tenant `acme` unless their entry says otherwise. */
export function createAuthBench(
  issuers: readonly IssuerSetup[],
  options: { denyList?: DocumentSource | null } & Partial<Pick<AuthenticatorDeps, 'sleep' | 'origins'>> = {},
): AuthBench {
  const entries = issuers.map(({ issuer: { kind, issuer, jwks }, entry = {} }) => ({
    kind,
    issuer,
    ...('tenant_claim' in entry ? {} : { tenant: 'acme' }),
    ...('jwks_file' in entry || 'jwks_url' in entry ? {} : { jwks }),
    ...entry,
  }));
  const bench: Omit<AuthBench, 'authenticator'> = {
    log: [],
    documents: new Map(),
    reads: [],
    hold: undefined,
    nowMs: NOW_MS,
    get elapsedMs() {
      return bench.nowMs;
    },
    reasons: () => bench.log.filter(({ event }) => event === 'key_refused').map(({ reason }) => reason),
  };
  const authenticator = createAuthenticator({
    issuers: issuersSchema.parse({ issuers: entries }),
    denyList: options.denyList ?? null,
    async readDocument(source) {
      const name = 'file' in source ? source.file : source.url;
      bench.reads.push(name);
      await bench.hold;
      const text = bench.documents.get(name);
      if (text === undefined) throw new Error(`no such document: ${name}`);
      return text;
    },
    origins: options.origins ?? [ORIGIN],
    now: () => bench.nowMs,
    elapsed: () => bench.elapsedMs,
    sleep: options.sleep ?? (() => Promise.reject(new Error('no sleeping here'))),
    log: (entry) => bench.log.push(entry),
  });
  return Object.assign(bench, { authenticator });
}

/** A request with these header fields; a list repeats its field. */
export function requestWith(fields: Record<string, string | string[]>): Request {
  const headers = new Headers();
  for (const [name, values] of Object.entries(fields)) {
    for (const value of [values].flat()) headers.append(name, value);
  }
  return new Request('http://127.0.0.1:8000/v1/execute', { headers });
}

export function bearer(token: string): Request {
  return requestWith({ authorization: `Bearer ${token}` });
}

export function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}
