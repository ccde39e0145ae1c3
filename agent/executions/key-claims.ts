import { RECORD_TTL_MS } from '../../shared/limits.ts';
import type { FromAgent, FromGateway } from '../../shared/messages.ts';
import type { Clock } from '../clock.ts';
import { digestOf } from './digest-of.ts';

/** Keys that an agent remembers. */
export const MAX_CLAIMS = 50_000;
/** Of one holder of a key to the gateway, whatever end users it names. */
export const MAX_CLAIMS_PER_HOLDER = 10_000;
/** What is over goes one by one as it is asked for, and all of it no more often than this where there is no room. */
const SWEEP_MS = 1_000;
/** The longest that a key is kept for an execution that has not begun here. */
const MAX_KEEP_MS = 2 * RECORD_TTL_MS;

type Claim = {
  executionId: string;
  readonly digest: string;
  /** Its digest. */
  readonly holder: string | undefined;
  untilMs: number;
  runsHere: boolean;
};

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
  maxPerHolder = MAX_CLAIMS_PER_HOLDER,
}: {
  clock: Clock;
  maxClaims?: number;
  maxPerHolder?: number;
}): KeyClaims {
  const claims = new Map<string, Claim>();
  /** How many each holder has. A gateway of an earlier version does not say whose a key is. */
  const counts = new Map<string, number>();
  let sweptMs = Number.NEGATIVE_INFINITY;

  function charge(holder: string | undefined, change: number): void {
    if (holder === undefined) return;
    const left = (counts.get(holder) ?? 0) + change;
    if (left === 0) counts.delete(holder);
    else counts.set(holder, left);
  }

  function keep(key: string, claim: Claim): void {
    forget(key);
    claims.set(key, claim);
    charge(claim.holder, 1);
  }

  function forget(key: string): void {
    const claim = claims.get(key);
    if (claims.delete(key)) charge(claim?.holder, -1);
  }

  function find(key: string): Claim | undefined {
    const claim = claims.get(key);
    if (!claim || claim.untilMs > clock.now()) return claim;
    forget(key);
    return undefined;
  }

  function isFull(holder: string | undefined): boolean {
    return claims.size >= maxClaims || (holder !== undefined && (counts.get(holder) ?? 0) >= maxPerHolder);
  }

  function hasRoom(holder: string | undefined): boolean {
    if (!isFull(holder)) return true;
    if (clock.now() - sweptMs < SWEEP_MS) return false;
    sweptMs = clock.now();
    for (const key of claims.keys()) find(key);
    return !isFull(holder);
  }

  return {
    claim({ key, digest, execution_id, replaces, keep_ms, release, holder: holderName }) {
      const claim = find(key);
      if (release) {
        if (claim?.executionId === execution_id && !claim.runsHere) forget(key);
        return { execution_id, digest };
      }
      if (claim && (claim.runsHere || ![execution_id, replaces].includes(claim.executionId)))
        return { execution_id: claim.executionId, digest: claim.digest };
      const holder = holderName === undefined ? undefined : digestOf(holderName);
      if (!claim && !hasRoom(holder)) return null;
      const untilMs = clock.now() + Math.min(keep_ms, MAX_KEEP_MS);
      keep(key, { executionId: execution_id, digest, holder, untilMs, runsHere: false });
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
