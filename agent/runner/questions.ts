import { Failure } from '../../shared/errors.ts';
import type { FrameFault } from '../../shared/frame.ts';
import { TYPE } from '../../shared/frame-type.ts';
import { orAborted } from '../deadline.ts';
import { broken } from './frame-body.ts';
import type { Pong, ResetDone } from './messages.ts';

/** PINGs that may wait for their answer: a runner that answers none must not make the agent remember them all. */
const MAX_PINGS = 16;

type Waiter<T> = { resolve(value: T): void; reject(reason: unknown): void };

/** What is asked of a runner itself, and its answers. */
export type Questions = {
  ping(signal: AbortSignal): Promise<Pong>;
  /** One at a time. */
  reset(signal: AbortSignal): Promise<ResetDone>;
  onPong(body: Pong): FrameFault | undefined;
  onResetDone(body: ResetDone): FrameFault | undefined;
  /** Nothing is answered any more. */
  end(why: Failure): void;
};

export function createQuestions(send: (type: number, stream: number, body: unknown) => void): Questions {
  const pings = new Map<number, Waiter<Pong>>();
  let resetting: Waiter<ResetDone> | undefined;
  let lastPing = 0;
  let over: Failure | undefined;

  /** An abort ends the wait, not the question: its answer, when it comes, is still expected. */
  async function ask<T>(signal: AbortSignal, begin: (waiter: Waiter<T>) => void): Promise<T> {
    if (over) throw over;
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    begin({ resolve, reject });
    return orAborted(promise, signal);
  }

  return {
    ping(signal) {
      if (pings.size >= MAX_PINGS)
        return Promise.reject(new Failure('sandbox_lost', 'The runner answers no PING.'));
      lastPing += 1;
      const id = lastPing;
      return ask<Pong>(signal, (waiter) => {
        pings.set(id, waiter);
        send(TYPE.PING, 0, { id });
      });
    },
    reset(signal) {
      if (resetting) return Promise.reject(notWhileBusy());
      return ask<ResetDone>(signal, (waiter) => {
        resetting = waiter;
        send(TYPE.RESET, 0, {});
      });
    },
    onPong(body) {
      const waiter = pings.get(body.id);
      if (!waiter) return broken('PONG without its PING');
      pings.delete(body.id);
      waiter.resolve(body);
      return undefined;
    },
    onResetDone(body) {
      if (!resetting) return broken('RESET_DONE without RESET');
      const waiter = resetting;
      resetting = undefined;
      waiter.resolve(body);
      return undefined;
    },
    end(why) {
      over = why;
      for (const waiter of [...pings.values(), ...(resetting ? [resetting] : [])]) waiter.reject(why);
      pings.clear();
      resetting = undefined;
    },
  };
}

export function notWhileBusy(): Failure {
  return new Failure('busy', 'A sandbox is reset only while nothing runs in it.');
}
