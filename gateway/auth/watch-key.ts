import type { GatewayDeps } from '../gateway-deps.ts';
import type { Caller } from './caller.ts';

/** What a timer can hold. */
const MAX_TIMER_MS = 2_147_483_647;

/** Calls `denied` once when a caller's key ends or is revoked. Returns how to stop watching. */
export function watchKey(
  { now, timers, authenticator }: Pick<GatewayDeps, 'now' | 'timers' | 'authenticator'>,
  caller: Caller,
  denied: () => void,
): () => void {
  const revocation = authenticator.watchRevocation(caller);
  const end = () => {
    stop();
    denied();
  };
  const look = () => {
    const leftMs = caller.expiresAtMs - now();
    if (leftMs <= 0) end();
    else timer = timers.setTimeout(look, Math.min(leftMs, MAX_TIMER_MS));
  };
  const stop = () => {
    timers.clearTimeout(timer);
    revocation.signal.removeEventListener('abort', end);
    revocation[Symbol.dispose]();
  };
  let timer: unknown = timers.setTimeout(
    look,
    Math.min(Math.max(0, caller.expiresAtMs - now()), MAX_TIMER_MS),
  );
  revocation.signal.addEventListener('abort', end);
  return stop;
}
