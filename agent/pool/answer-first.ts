import type { CancelTimer, Clock } from '../clock.ts';

/** Work that takes the processors on which an answer is on its way, put off until the answer is out. */
export type AnswerFirst = {
  /** For so long at most. Does nothing for work that is put off already. */
  later(work: () => void, delayMs: number): void;
  /** Does it now if it is put off. */
  now(work: () => void): void;
  /** Somebody waits for what was put off: all of it is done now. */
  hurry(): void;
};

export function createAnswerFirst(clock: Clock): AnswerFirst {
  const putOff = new Map<() => void, CancelTimer>();

  function begin(work: () => void): void {
    putOff.delete(work);
    work();
  }

  function now(work: () => void): void {
    const cancel = putOff.get(work);
    if (!cancel) return;
    cancel();
    begin(work);
  }

  return {
    later(work, delayMs) {
      if (putOff.has(work)) return;
      putOff.set(
        work,
        clock.after(delayMs, () => begin(work)),
      );
    },
    now,
    hurry() {
      for (const work of [...putOff.keys()]) now(work);
    },
  };
}
