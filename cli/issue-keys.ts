import {
  type AgentClaims,
  agentClaims,
  type CallerClaims,
  matchesName,
  type Scope,
} from '../shared/claims.ts';
import { type AgentCredential, formatCredential } from '../shared/credential.ts';
import type { Ed25519Jwk } from '../shared/jose.ts';
import { generateKeyPair, type PrivateJwk } from '../shared/key-set.ts';
import { randomId, readToken, signKey, type Trust } from '../shared/keys.ts';
import { UsageError } from './io.ts';
import { openIssuer } from './key-folder.ts';
import { formatDuration } from './key-options.ts';

const DAY_SECONDS = 86_400;
const DEFAULT_KEY_LIFETIME_SECONDS = 30 * DAY_SECONDS;
const DEFAULT_TOKEN_LIFETIME_SECONDS = 90 * DAY_SECONDS;

export type CallerKeyRequest = {
  sub: string;
  scopes?: readonly Scope[];
  clusters?: string[];
  defaultCluster?: string;
  templates?: string[];
  limits?: NonNullable<CallerClaims['limits']>;
  lifetimeSeconds?: number;
};

export type AgentTokenRequest = {
  clusters: string[];
  sub?: string;
  maxInstances?: number;
  lifetimeSeconds?: number;
  /** A key that the agent made itself; without it a pair is made and becomes part of the credential. */
  publicKey?: Ed25519Jwk;
  /** The pair of a credential that is renewed. */
  pair?: PrivateJwk;
};

/** `text` is what to hand over: a key, a token, or a credential. */
export type Issued = { text: string; jti: string; expiresAtMs: number };

/** Signs a caller's key with the folder's issuer. Throws UsageError for what the gateway would refuse. */
export async function issueCallerKey(dir: string, request: CallerKeyRequest, nowMs: number): Promise<Issued> {
  const { entry, signingKey } = await openIssuer(dir, 'callers');
  const { clusters, defaultCluster, templates, limits } = request;
  if (defaultCluster !== undefined && clusters !== undefined && !matchesName(clusters, defaultCluster)) {
    throw new UsageError(`the default cluster '${defaultCluster}' is not among the key's clusters`);
  }
  const claims: CallerClaims = {
    ...registeredClaims(
      entry.trust,
      request.sub,
      request.lifetimeSeconds ?? DEFAULT_KEY_LIFETIME_SECONDS,
      nowMs,
    ),
    scope: (request.scopes ?? ['execute', 'files', 'sessions']).join(' '),
    ...(clusters && { clusters }),
    ...(defaultCluster && { default_cluster: defaultCluster }),
    ...(templates && { templates }),
    ...(limits && { limits }),
  };
  return {
    text: await signKey('callers', claims, signingKey),
    jti: claims.jti,
    expiresAtMs: claims.exp * 1000,
  };
}

/** Signs an agent's token with the folder's issuer; the text is a whole credential unless the agent has its own key. */
export async function issueAgentToken(
  dir: string,
  request: AgentTokenRequest,
  nowMs: number,
): Promise<Issued> {
  const { entry, signingKey } = await openIssuer(dir, 'agents');
  const pair = request.pair ?? (request.publicKey === undefined ? await generateKeyPair() : undefined);
  const { x } = request.publicKey ?? pair ?? {};
  if (x === undefined) throw new UsageError('the public key has no x');
  const lifetimeSeconds = request.lifetimeSeconds ?? DEFAULT_TOKEN_LIFETIME_SECONDS;
  const claims: AgentClaims = {
    ...registeredClaims(entry.trust, request.sub ?? `agent-${randomId(6)}`, lifetimeSeconds, nowMs),
    clusters: request.clusters,
    cnf: { jwk: { kty: 'OKP', crv: 'Ed25519', x } },
    ...(request.maxInstances && { max_instances: request.maxInstances }),
  };
  const token = await signKey('agents', claims, signingKey);
  const text = pair ? formatCredential({ token, key: pair }) : token;
  return { text, jti: claims.jti, expiresAtMs: claims.exp * 1000 };
}

/** What a credential was made for, to make it again: the agent that runs with it takes the newer one over as it is. */
export function renewalOf({ token, key }: AgentCredential): AgentTokenRequest {
  const parts = readToken(token);
  const { success, data } = agentClaims.safeParse('claims' in parts ? parts.claims : undefined);
  if (!success) throw new UsageError("the credential's token is no agent's: make one with --cluster");
  const { clusters, sub, max_instances: maxInstances } = data;
  return { clusters, sub, pair: key, ...(maxInstances !== undefined && { maxInstances }) };
}

function registeredClaims(trust: Trust, sub: string, lifetimeSeconds: number, nowMs: number) {
  if (lifetimeSeconds > trust.maxLifetimeSeconds) {
    const most = formatDuration(trust.maxLifetimeSeconds);
    throw new UsageError(
      `--expires is too long: issuers.json lets these live ${most} at most (max_lifetime_seconds)`,
    );
  }
  const iat = Math.floor(nowMs / 1000);
  // A letter first, so that an id is never taken for an option of the command that revokes it.
  const jti = `k${randomId()}`;
  return { iss: trust.issuer, aud: trust.audience, sub, jti, iat, exp: iat + lifetimeSeconds };
}
