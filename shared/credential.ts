import * as z from 'zod';
import { matchesName } from './claims.ts';
import { Failure } from './errors.ts';
import { fromBase64Url, toBase64Url } from './jose.ts';
import { type PrivateJwk, privateJwk } from './key-set.ts';
import { MAX_TOKEN_BYTES, readToken } from './keys.ts';
import { parseUniqueObject } from './unique-json.ts';

const PREFIX = 'podgate_agent_';
const MAX_CREDENTIAL_CHARS = 2 * MAX_TOKEN_BYTES;

/** A token and the private key it is bound to: what an agent needs to join. The key never goes over the link. */
export type AgentCredential = { token: string; key: PrivateJwk };

/** One string that a person can paste into one setting. It is a secret. */
export function formatCredential({ token, key }: AgentCredential): string {
  return PREFIX + toBase64Url(JSON.stringify({ token, key }));
}

/** True for text that claims to be a credential, whether or not it can be read. */
export function isCredential(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** Reads what `formatCredential` wrote; throws an Error that says what to do and shows nothing of the text. */
export function parseCredential(text: string): AgentCredential {
  const trimmed = text.trim();
  if (trimmed.startsWith(PREFIX) && trimmed.length <= MAX_CREDENTIAL_CHARS) {
    const bytes = fromBase64Url(trimmed.slice(PREFIX.length));
    const value = bytes === null ? null : parseUniqueObject(bytes);
    const key = privateJwk.safeParse(value?.key);
    if (typeof value?.token === 'string' && key.success && !('ok' in readToken(value.token))) {
      return { token: value.token, key: key.data };
    }
  }
  throw new Error(
    `The agent's credential cannot be read: it is one line that starts with ${PREFIX}. Copy it whole, or make a new one with "podgate agents token".`,
  );
}

const named = z.object({ clusters: z.array(z.string()) });

/** Throws a Failure that says what to do where a token does not name one of these clusters: no gateway lets it join. */
export function requireNamed(token: string, clusters: readonly string[]): void {
  const parts = readToken(token);
  const claims = named.safeParse('claims' in parts ? parts.claims : undefined);
  const foreign = claims.data && clusters.find((name) => !matchesName(claims.data.clusters, name));
  if (foreign === undefined) return;
  throw new Failure(
    'forbidden',
    `The agent's token is for ${claims.data?.clusters.join(', ')}, not for the cluster '${foreign}': call it so, or make another with "podgate agents token --cluster ${foreign}".`,
  );
}
