import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves when the time is over or the signal is aborted. Keeps no process from its end. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return sleep(ms, undefined, { signal, ref: false }).catch(() => {});
}
