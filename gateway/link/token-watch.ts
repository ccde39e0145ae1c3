import type { Authenticator } from '../auth/authenticator.ts';
import type { AuthenticatedAgent } from '../auth/caller.ts';
import type { Revocation } from '../auth/revocations.ts';

/** A newer token is asked for this long before the end of the one in use (shared/protocol.md 5.6). */
export const REFRESH_AHEAD_MS = 300_000;
const MIN_ASK_EVERY_MS = 10_000;

/** Says when the token of one link is due for renewal or has ended. Asked on every heartbeat: it has no timers. */
export class TokenWatch {
  readonly #authenticator: Pick<Authenticator, 'watchRevocation'>;
  readonly #onRevoked: () => void;
  #endsAtMs = Number.POSITIVE_INFINITY;
  #askAtMs = Number.POSITIVE_INFINITY;
  #revocation: Revocation | undefined;

  constructor(authenticator: Pick<Authenticator, 'watchRevocation'>, onRevoked: () => void) {
    this.#authenticator = authenticator;
    this.#onRevoked = onRevoked;
  }

  /** Watches this token from now on, and no other. */
  watch(agent: AuthenticatedAgent, nowMs: number): void {
    const endsAtMs = agent.expiresAtMs;
    const leftMs = agent.expiresAtMs - nowMs;
    // An agent that has no newer token yet answers with the same: then it is asked again at half of what is left.
    const early = endsAtMs <= this.#endsAtMs && this.#endsAtMs !== Number.POSITIVE_INFINITY;
    const waitMs = early ? leftMs / 2 : Math.max(leftMs - REFRESH_AHEAD_MS, Math.min(leftMs / 2, 1_000));
    this.#askAtMs = nowMs + Math.max(waitMs, early ? MIN_ASK_EVERY_MS : 0);
    this.#endsAtMs = endsAtMs;
    this.#revocation?.[Symbol.dispose]();
    this.#revocation = this.#authenticator.watchRevocation(agent);
    const { signal } = this.#revocation;
    if (signal.aborted) this.#onRevoked();
    else signal.addEventListener('abort', this.#onRevoked, { once: true });
  }

  check(nowMs: number): 'good' | 'aging' | 'ended' {
    if (nowMs >= this.#endsAtMs) return 'ended';
    return nowMs >= this.#askAtMs ? 'aging' : 'good';
  }

  close(): void {
    this.#revocation?.signal.removeEventListener('abort', this.#onRevoked);
    this.#revocation?.[Symbol.dispose]();
  }
}
