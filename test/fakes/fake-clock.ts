import type { Clock } from '../../agent/clock.ts';

/** A clock that moves only when told to. */
export type FakeClock = Clock & {
  /** Runs every timer that is due within `ms`, in order, letting promises settle in between. */
  advance(ms: number): Promise<void>;
  /** Lets everything that needs no time happen, timers of 0 ms among it. */
  settle(): Promise<void>;
  /** Time goes by for everybody but this process: what was due meanwhile comes late. */
  standStill(ms: number): void;
  /** Sets the wall clock forward, or back: what is measured goes on. */
  jump(ms: number): void;
  readonly pending: number;
};

type Timer = { readonly dueMs: number; readonly order: number; readonly run: () => void };

export function createFakeClock(startMs = 1_000): FakeClock {
  const timers = new Set<Timer>();
  let nowMs = startMs;
  let order = 0;
  let wallMs = 1_800_000_000_000;

  async function flush(): Promise<void> {
    for (let turn = 0; turn < 3; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
  }

  async function advance(ms: number): Promise<void> {
    const untilMs = nowMs + ms;
    await flush();
    for (;;) {
      const due = [...timers].filter(({ dueMs }) => dueMs <= untilMs);
      due.sort((a, b) => a.dueMs - b.dueMs || a.order - b.order);
      const [timer] = due;
      if (!timer) break;
      timers.delete(timer);
      nowMs = Math.max(nowMs, timer.dueMs);
      timer.run();
      await flush();
    }
    nowMs = untilMs;
  }

  return {
    wall: () => wallMs + Math.floor(nowMs),
    now: () => nowMs,
    after(delayMs, run) {
      order += 1;
      const timer = { dueMs: nowMs + delayMs, order, run };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    advance,
    settle: () => advance(0),
    standStill(ms) {
      nowMs += ms;
    },
    jump(ms) {
      wallMs += ms;
    },
    get pending() {
      return timers.size;
    },
  };
}
