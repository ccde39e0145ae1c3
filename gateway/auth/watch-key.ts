import { Failure } from '../../shared/errors.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { Authenticator } from './authenticator.ts';
import type { Caller } from './caller.ts';

/** A key ends by the time of day: how often one looks whether a clock that was set, or a machine that slept, has passed its end. */
export const LOOK_MS = 15_000;

export type WatchKeyDeps = Pick<GatewayDeps, 'now' | 'timers'> & {
  authenticator: Pick<Authenticator, 'watchRevocation'>;
};

export function keyEnded(): Failure {
  return new Failure('unauthorized', 'The key is no longer accepted.');
}

/** Throws where a key has ended or was revoked since it was accepted: a body may take minutes to come. */
export function requireKey(
  { now, authenticator }: Pick<GatewayDeps, 'now' | 'authenticator'>,
  caller: Caller,
): void {
  if (now() >= caller.expiresAtMs || authenticator.isRevoked(caller)) throw keyEnded();
}

/** Calls `denied` once when a caller's key ends or is revoked, never in its caller's own turn. Returns how to stop watching. */
export function watchKey(
  { now, timers, authenticator }: WatchKeyDeps,
  caller: Caller,
  denied: () => void,
): () => void {
  const revocation = authenticator.watchRevocation(caller);
  let isOver = false;
  const end = () => {
    if (isOver) return;
    stop();
    denied();
  };
  const look = () => {
    const leftMs = caller.expiresAtMs - now();
    if (leftMs <= 0) end();
    else timer = timers.setTimeout(look, Math.min(leftMs, LOOK_MS));
  };
  const stop = () => {
    isOver = true;
    timers.clearTimeout(timer);
    revocation.signal.removeEventListener('abort', end);
    revocation[Symbol.dispose]();
  };
  let timer: unknown = timers.setTimeout(look, Math.min(Math.max(0, caller.expiresAtMs - now()), LOOK_MS));
  // A signal that has aborted already tells nobody.
  if (revocation.signal.aborted) queueMicrotask(end);
  else revocation.signal.addEventListener('abort', end);
  return stop;
}
