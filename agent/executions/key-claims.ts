import { RECORD_TTL_MS } from '../../shared/limits.ts';
import type { FromAgent, FromGateway } from '../../shared/messages.ts';
import type { Clock } from '../clock.ts';

/** Keys that an agent remembers. */
export const MAX_CLAIMS = 50_000;
/** The longest that a key is kept for an execution that has not begun here. */
const MAX_KEEP_MS = 2 * RECORD_TTL_MS;

type Claim = { executionId: string; readonly digest: string; untilMs: number; runsHere: boolean };

/** What an agent answers of a key: whose it is; null where it has no room to remember it. */
export type ClaimAnswer = Pick<FromAgent['CLAIM'], 'execution_id' | 'digest'>;

/**
 * Which execution each `Idempotency-Key` stands for, here or at another agent of the cluster (shared/protocol.md 9.7):
 * a START for a key that stands for another execution is refused.
 */
export type KeyClaims = {
  claim(ask: FromGateway['CLAIM']): ClaimAnswer | null;
  /** Whether this execution is the key's. */
  holds(key: string, executionId: string): boolean;
  /** It is under way here: the key is its own until RECORD_TTL_MS after its end. */
  began(key: string): void;
  ended(key: string): void;
  /** Nothing ran: it may be replaced, or given back. */
  refused(key: string): void;
};

export function createKeyClaims({
  clock,
  maxClaims = MAX_CLAIMS,
}: {
  clock: Clock;
  maxClaims?: number;
}): KeyClaims {
  const claims = new Map<string, Claim>();

  function find(key: string): Claim | undefined {
    const claim = claims.get(key);
    if (!claim || claim.untilMs > clock.now()) return claim;
    claims.delete(key);
    return undefined;
  }

  function hasRoom(): boolean {
    if (claims.size < maxClaims) return true;
    for (const key of claims.keys()) find(key);
    return claims.size < maxClaims;
  }

  return {
    claim({ key, digest, execution_id, replaces, keep_ms, release }) {
      const claim = find(key);
      if (release) {
        if (claim?.executionId === execution_id && !claim.runsHere) claims.delete(key);
        return { execution_id, digest };
      }
      if (claim && (claim.runsHere || ![execution_id, replaces].includes(claim.executionId)))
        return { execution_id: claim.executionId, digest: claim.digest };
      if (!claim && !hasRoom()) return null;
      const untilMs = clock.now() + Math.min(keep_ms, MAX_KEEP_MS);
      claims.set(key, { executionId: execution_id, digest, untilMs, runsHere: false });
      return { execution_id, digest };
    },
    holds: (key, executionId) => find(key)?.executionId === executionId,
    began(key) {
      const claim = claims.get(key);
      if (claim) Object.assign(claim, { runsHere: true, untilMs: Number.POSITIVE_INFINITY });
    },
    refused(key) {
      const claim = claims.get(key);
      if (claim) Object.assign(claim, { runsHere: false, untilMs: clock.now() + RECORD_TTL_MS });
    },
    ended(key) {
      const claim = claims.get(key);
      if (claim) claim.untilMs = clock.now() + RECORD_TTL_MS;
    },
  };
}
