import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Gateway } from '../create-gateway.ts';
import type { FrontServer } from './front-server.ts';
import { pause } from './pause.ts';

const WAIT_TURNS = 10;

export type DrainOptions = {
  gateway: Pick<Gateway, 'leave' | 'drain'>;
  front: Pick<FrontServer, 'leave' | 'stop' | 'answered' | 'dismiss'>;
  /** Others serve whoever is refused here. */
  hasOthers: boolean;
  /** Everything is taken for so long still. */
  delayMs: number;
  /** How long what was taken may last, from the delay's end. */
  deadlineMs: number;
  /** How long it waits for what is asked on connections that it has. */
  lastRequestMs: number;
  /** Aborted, it waits no more: the gateway was closed. */
  signal: AbortSignal;
};

/** What `RunningGateway.drain` says, until nothing is left but to close. */
export async function drainGateway(options: DrainOptions): Promise<void> {
  const { gateway, front, hasOthers, delayMs, deadlineMs, lastRequestMs, signal } = options;
  front.leave();
  gateway.leave();
  if (delayMs > 0) await waitForOthers(delayMs, signal);
  if (hasOthers) {
    void front.stop();
    await waitForOthers(lastRequestMs, signal);
  }
  const untilMs = performance.now() + deadlineMs;
  await gateway.drain(deadlineMs);
  // Files come and go, and answers are taken, at their callers' pace.
  void front.stop();
  await Promise.race([front.answered(), pause(Math.max(0, untilMs - performance.now()), signal)]);
  // Whoever had the last answers on a connection to keep is told, not cut off.
  if (hasOthers) {
    await waitForOthers(lastRequestMs, signal);
    front.dismiss();
  }
}

/**
 * A pause for what others send meanwhile, in turns that this process had: after a while without one, that the time is over
 * would be seen before what came in time.
 */
async function waitForOthers(ms: number, signal: AbortSignal): Promise<void> {
  for (let turn = 0; turn < WAIT_TURNS && !signal.aborted; turn += 1) {
    await pause(ms / WAIT_TURNS, signal);
    // The look at the sockets comes behind that at the timers.
    await nextTurn();
  }
}
