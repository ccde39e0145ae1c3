import type { KeyKind } from '../../shared/claims.ts';
import { type Accepted, CLOCK_SKEW_SECONDS, type Refused } from '../../shared/keys.ts';
import type { Sha256 } from '../sha256.ts';
import { createBoundedMap } from './bounded-map.ts';

/** Accepted tokens that are remembered, a few KB each at most, and refused ones, which anybody can send. */
export const MAX_ACCEPTED = 10_000;
export const MAX_REFUSED = 1_000;
/** A key that was refused may become good: its issuer's JWKS is read, its time comes. */
export const REFUSED_FOR_MS = 5_000;

export type Verdict<Kind extends KeyKind> = Accepted<Kind> | Refused;

/** Verdicts on tokens by their digest. What was refused never takes the room of what was accepted. */
export type VerdictCache<Kind extends KeyKind> = {
  /** The verdict on a token, from `judge` unless it is known and `isCurrent` still holds. */
  recall(
    token: string,
    judge: () => Promise<Verdict<Kind>>,
    isCurrent: (accepted: Accepted<Kind>) => boolean,
  ): Promise<Verdict<Kind>>;
  /** Forgets refusals: the reasons may be gone. */
  forgetRefused(): void;
};

export type VerdictCacheDeps = { now: () => number; elapsed: () => number; sha256: Sha256 };

/** Tokens are secrets: their digest is kept, not they. */
export function createVerdictCache<Kind extends KeyKind>({
  now,
  elapsed,
  sha256,
}: VerdictCacheDeps): VerdictCache<Kind> {
  const accepted = createBoundedMap<string, Accepted<Kind>>(MAX_ACCEPTED);
  let refused = createBoundedMap<string, { verdict: Refused; untilMs: number }>(MAX_REFUSED);
  const underWay = new Map<string, Promise<Verdict<Kind>>>();

  async function judgeAndKeep(digest: string, judge: () => Promise<Verdict<Kind>>): Promise<Verdict<Kind>> {
    const generation = refused;
    const verdict = await judge();
    if (verdict.ok) accepted.set(digest, verdict);
    else generation.set(digest, { verdict, untilMs: elapsed() + REFUSED_FOR_MS });
    return verdict;
  }

  return {
    async recall(token, judge, isCurrent) {
      const digest = await sha256(token);
      const good = accepted.get(digest);
      if (good !== undefined) {
        if (now() < (good.claims.exp + CLOCK_SKEW_SECONDS) * 1000 && isCurrent(good)) return good;
        accepted.delete(digest);
      }
      const bad = refused.get(digest);
      if (bad !== undefined && elapsed() < bad.untilMs) return bad.verdict;
      const running = underWay.get(digest);
      if (running !== undefined) return running;
      const started = judgeAndKeep(digest, judge).finally(() => underWay.delete(digest));
      underWay.set(digest, started);
      return started;
    },
    forgetRefused() {
      refused = createBoundedMap(MAX_REFUSED);
    },
  };
}
