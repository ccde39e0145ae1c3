import type { CancelTimer, Clock } from '../clock.ts';

/** Work that takes the processors on which an answer is on its way, put off until the answer is out. */
export type AnswerFirst = {
  /** Does nothing for work that is put off already. */
  later(work: () => void): void;
  /** Somebody waits for what was put off: all of it is done now. */
  hurry(): void;
};

export function createAnswerFirst(clock: Clock, delayMs: number): AnswerFirst {
  const putOff = new Map<() => void, CancelTimer>();

  function begin(work: () => void): void {
    putOff.delete(work);
    work();
  }

  return {
    later(work) {
      if (putOff.has(work)) return;
      putOff.set(
        work,
        clock.after(delayMs, () => begin(work)),
      );
    },
    hurry() {
      for (const [work, cancel] of [...putOff]) {
        cancel();
        begin(work);
      }
    },
  };
}
