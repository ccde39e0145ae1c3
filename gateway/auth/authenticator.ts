import { fillLimits, type KeyKind, parseScopes } from '../../shared/claims.ts';
import { Failure } from '../../shared/errors.ts';
import { thumbprint } from '../../shared/jose.ts';
import {
  type Accepted,
  CLOCK_SKEW_SECONDS,
  MAX_TOKEN_BYTES,
  type Refusal,
  readToken,
  verifyKey,
} from '../../shared/keys.ts';
import { HELLO_SKEW_MS } from '../../shared/limits.ts';
import { digestPrincipal, formatPrincipal, MAX_USER_CHARS } from '../../shared/principal.ts';
import { type ProofParts, toOrigin, verifyProof } from '../../shared/proof.ts';
import { type Sha256, webSha256 } from '../sha256.ts';
import type { AuthenticatedAgent, Caller } from './caller.ts';
import { createDenyList } from './deny-list.ts';
import type { AuthLog, DocumentSource, ReadDocument } from './documents.ts';
import type { IssuerEntry } from './issuers.ts';
import { createKeySets } from './key-sets.ts';
import { readPresentedKey } from './presented-key.ts';
import { createRevocations, type Revocable, type Revocation } from './revocations.ts';
import { createVerdictCache, type Verdict, type VerdictCache } from './verdict-cache.ts';

/** How often the deny-list and the files of keys are read again. */
export const REFRESH_MS = 15_000;

export type AuthenticatorDeps = {
  issuers: readonly IssuerEntry[];
  /** Null: none. One that is configured and could never be read refuses everybody. */
  denyList: DocumentSource | null;
  readDocument: ReadDocument;
  /** The gateway's own origins, as agents dial them. */
  origins: readonly string[];
  now: () => number;
  /** Milliseconds that only go forward: how long something is kept. */
  elapsed: () => number;
  /** Ends at once, without throwing, when the signal does. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  log: AuthLog;
  sha256?: Sha256;
};

/** What HELLO and AUTH_REFRESH bring, and the nonce that the gateway sent on the same socket. */
export type AgentProof = Omit<ProofParts, 'origin'> & { signature: string };

export type Authenticator = {
  /** Who sent a request. Throws `unauthorized`, with one sentence whatever the reason, or `invalid_request` for a bad user. */
  authenticate(request: Request): Promise<Caller>;
  /** Who opened a link. Throws `unauthorized` where the token or the proof is not good. */
  authenticateAgent(token: string, proof: AgentProof): Promise<AuthenticatedAgent>;
  /** Whether a key that was accepted is denied since, or its signer's key withdrawn. */
  isRevoked(key: Revocable): boolean;
  /** A signal that aborts when that comes true; dispose of it with what it guards. */
  watchRevocation(key: Revocable): Revocation;
  /** Calls back after every change of deny-list or keys; returns how to stop. */
  onChange(listener: () => void): () => void;
  /** Reads deny-list and keys again where due; never rejects. Call it once before the first request. */
  refresh(): Promise<void>;
  /** Refreshes every `REFRESH_MS` until the signal ends. */
  watch(signal: AbortSignal): Promise<void>;
};

type Reason = Refusal | 'revoked' | 'deny_list_unavailable' | 'several_keys' | 'bad_time' | 'bad_proof';

export function createAuthenticator(deps: AuthenticatorDeps): Authenticator {
  const { issuers, denyList: source, readDocument, now, elapsed, sleep, log, sha256 = webSha256 } = deps;
  const origins = deps.origins.map(toOrigin);
  const caches: { [Kind in KeyKind]: VerdictCache<Kind> } = {
    callers: createVerdictCache({ now, elapsed, sha256 }),
    agents: createVerdictCache({ now, elapsed, sha256 }),
  };
  const knownCallers = new WeakMap<Accepted<'callers'>, Promise<Caller>>();
  const revocations = createRevocations({ isRevoked: (key) => isRevoked(key), log });
  const onChange = (): void => {
    caches.callers.forgetRefused();
    caches.agents.forgetRefused();
    revocations.changed();
  };
  const keySets = createKeySets({ issuers, readDocument, elapsed, log, onChange });
  const names = new Set(issuers.map(({ trust }) => trust.issuer));
  const denyList = createDenyList({ issuers: names, source, readDocument, log, onChange });

  function isRevoked(key: Revocable): boolean {
    return (
      denyList.refuses(key) !== null || keySets.current(key.kind, key.issuer, key.kid)?.x !== key.signedBy
    );
  }

  function refuse(kind: KeyKind, reason: Reason, token?: string): Failure {
    // An agent signs the origin that it dialled: behind a proxy that is one which PODGATE_ORIGINS has to name.
    const proven = reason === 'bad_proof' ? { origins: origins.join(',') } : {};
    const described = token ? describeToken(token) : {};
    log({ level: 'warn', event: 'key_refused', kind, reason, ...proven, ...described });
    return new Failure('unauthorized', 'The key was not accepted.', { cause: reason });
  }

  async function refresh(): Promise<void> {
    await Promise.all([keySets.refresh(), denyList.refresh()]);
  }

  /** Everything that only time, keys or the token itself decide: what may be remembered. */
  async function judge<Kind extends KeyKind>(kind: Kind, token: string): Promise<Verdict<Kind>> {
    const parts = readToken(token);
    if ('ok' in parts) return parts;
    const issuer = typeof parts.claims.iss === 'string' ? parts.claims.iss : '';
    const trust = keySets.entry(kind, issuer)?.trust;
    if (trust === undefined) return { ok: false, reason: 'wrong_issuer' };
    const findKey = (kid: string) => keySets.find(kind, issuer, kid);
    return verifyKey(token, { kind, trust, nowMs: now(), findKey });
  }

  async function accept<Kind extends KeyKind>(kind: Kind, token: string): Promise<Accepted<Kind>> {
    // Before anything else looks at it, its digest included.
    if (token.length > MAX_TOKEN_BYTES) throw refuse(kind, 'too_large');
    const verdict = await caches[kind].recall(
      token,
      () => judge(kind, token),
      ({ claims, signer }) => keySets.current(kind, claims.iss, signer.kid)?.x === signer.x,
    );
    if (!verdict.ok) throw refuse(kind, verdict.reason, token);
    // Asked every time and not remembered, so that a verdict that was under way during a change is not kept.
    const { iss: issuer, sub, jti } = verdict.claims;
    const denied = denyList.refuses({ issuer, sub, jti });
    if (denied !== null) throw refuse(kind, denied, token);
    return verdict;
  }

  return {
    async authenticate({ headers }) {
      const presented = readPresentedKey(headers);
      if (presented.found === 'none') {
        throw new Failure('unauthorized', 'Send a key, as "Authorization: Bearer KEY".');
      }
      if (presented.found === 'several') throw refuse('callers', 'several_keys');
      const accepted = await accept('callers', presented.token);
      const user = readUser(headers);
      if (user !== null) return toCaller(accepted, user);
      const known = knownCallers.get(accepted) ?? toCaller(accepted, null);
      knownCallers.set(accepted, known);
      return known;
    },

    async authenticateAgent(token, proof) {
      const accepted = await accept('agents', token);
      if (!(Math.abs(now() - proof.timeMs) <= HELLO_SKEW_MS)) throw refuse('agents', 'bad_time', token);
      const { jwk } = accepted.claims.cnf;
      for (const origin of origins) {
        const { nonce, instance, timeMs, signature } = proof;
        if (await verifyProof(jwk, { nonce, origin, instance, timeMs }, signature)) return toAgent(accepted);
      }
      throw refuse('agents', 'bad_proof', token);
    },

    isRevoked,
    watchRevocation: revocations.watch,
    onChange: revocations.onChange,
    refresh,
    async watch(signal) {
      while (!signal.aborted) {
        await refresh();
        await sleep(REFRESH_MS, signal);
      }
    },
  };
}

async function toCaller(
  { claims, tenant, signer }: Accepted<'callers'>,
  user: string | null,
): Promise<Caller> {
  const principal = formatPrincipal(tenant, claims.sub, user);
  return {
    kind: 'callers',
    tenant,
    principal,
    principalDigest: await digestPrincipal(principal),
    holder: formatPrincipal(tenant, claims.sub),
    sub: claims.sub,
    user,
    jti: claims.jti,
    kid: signer.kid,
    signedBy: signer.x,
    issuer: claims.iss,
    scopes: parseScopes(claims.scope),
    clusters: claims.clusters ?? null,
    defaultCluster: claims.default_cluster ?? null,
    templates: claims.templates ?? null,
    limits: fillLimits(claims.limits),
    expiresAtMs: (claims.exp + CLOCK_SKEW_SECONDS) * 1000,
  };
}

async function toAgent({ claims, tenant, signer }: Accepted<'agents'>): Promise<AuthenticatedAgent> {
  return {
    kind: 'agents',
    tenant,
    clusters: claims.clusters,
    sub: claims.sub,
    jti: claims.jti,
    kid: signer.kid,
    signedBy: signer.x,
    issuer: claims.iss,
    thumbprint: await thumbprint(claims.cnf.jwk),
    maxInstances: claims.max_instances ?? null,
    expiresAtMs: (claims.exp + CLOCK_SKEW_SECONDS) * 1000,
  };
}

/** `Podgate-User`: visible ASCII, spaces inside. Others percent-encode it themselves, as HTTP fields carry no Unicode. */
function readUser(headers: Headers): string | null {
  const user = headers.get('podgate-user');
  if (user === null) return null;
  if (user.length <= MAX_USER_CHARS && /^[\x20-\x7e]+$/.test(user)) return user;
  const message = `Podgate-User is 1 to ${MAX_USER_CHARS} printable ASCII characters.`;
  throw new Failure('invalid_request', message, { errors: [{ path: 'Podgate-User', message }] });
}

/** What the log may say of a token: its own ids, cut short since anybody can write them. */
function describeToken(token: string): Record<string, string | null> {
  const parts = readToken(token);
  if ('ok' in parts) return {};
  const show = (value: unknown) => (typeof value === 'string' ? value.slice(0, 128) : null);
  return { kid: show(parts.header.kid), issuer: show(parts.claims.iss), jti: show(parts.claims.jti) };
}
