import { Failure } from '../../shared/errors.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';

/** What executions that wait for a sandbox may hold, over all links and over one. */
export const MAX_WAITING_BYTES = 134_217_728;
export const MAX_WAITING_LINK_BYTES = 67_108_864;
/** What each counts as beside the input that may come before its sandbox: START, timers, promises. */
export const WAITING_START_BYTES = 16_384;

/** Where executions wait for a sandbox: a gateway that sends more of them than it was granted must not fill the memory. */
export type WaitingRoom = {
  /** Takes one in until it is disposed of. Throws `at_capacity` where there is no room. */
  enter(link: object, inputBytes: number): Disposable;
};

export function createWaitingRoom(): WaitingRoom {
  const ofLinks = new Map<object, number>();
  let total = 0;

  function charge(link: object, bytes: number): void {
    total += bytes;
    const held = (ofLinks.get(link) ?? 0) + bytes;
    if (held === 0) ofLinks.delete(link);
    else ofLinks.set(link, held);
  }

  return {
    enter(link, inputBytes) {
      const bytes = WAITING_START_BYTES + Math.min(inputBytes, STREAM_WINDOW_BYTES);
      if (total + bytes > MAX_WAITING_BYTES || (ofLinks.get(link) ?? 0) + bytes > MAX_WAITING_LINK_BYTES)
        throw new Failure('at_capacity', 'Too many executions wait for a sandbox already.', {
          retryAfterMs: 1_000,
        });
      charge(link, bytes);
      return { [Symbol.dispose]: () => charge(link, -bytes) };
    },
  };
}
