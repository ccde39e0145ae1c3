import type { CancelTimer, Clock } from '../clock.ts';

/** Work that takes the processors on which an answer is on its way, put off until the answer is out. */
export type AnswerFirst = {
  /** For so long at most, and while nobody waits for it. Work that is put off already stays as it is. */
  later(work: () => void, delayMs: number): void;
  /** The same until `answered`, where that is known. */
  until(answered: Promise<void> | undefined, work: () => void, delayMs: number): void;
  /** Somebody waits for what was put off: all of it is done now. */
  hurry(): void;
};

/** `isAwaited`: whether somebody waits for what may be put off. */
export function createAnswerFirst(clock: Clock, isAwaited: () => boolean): AnswerFirst {
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

  function later(work: () => void, delayMs: number): void {
    if (!putOff.has(work))
      putOff.set(
        work,
        clock.after(delayMs, () => begin(work)),
      );
    if (isAwaited()) hurry();
  }

  function hurry(): void {
    for (const work of [...putOff.keys()]) now(work);
  }

  return {
    later,
    until(answered, work, delayMs) {
      void answered?.then(() => now(work));
      later(work, delayMs);
    },
    hurry,
  };
}
