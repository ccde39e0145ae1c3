import type { CancelTimer, Clock } from '../clock.ts';

/** Calls `onIdle` once when `touch` was not called for so long. */
export type IdleWatch = { touch(): void; stop(): void };

export function createIdleWatch(clock: Clock, idleMs: number, onIdle: () => void): IdleWatch {
  let lastMs = clock.now();
  let cancel: CancelTimer = clock.after(idleMs, look);

  // A timer a touch would be one a keystroke.
  function look(): void {
    const leftMs = lastMs + idleMs - clock.now();
    if (leftMs > 0) cancel = clock.after(leftMs, look);
    else onIdle();
  }

  return {
    touch() {
      lastMs = clock.now();
    },
    stop: () => cancel(),
  };
}
