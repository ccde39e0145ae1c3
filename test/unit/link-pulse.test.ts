import { expect, test } from 'vitest';
import { LinkPulse } from '../../gateway/link/link-pulse.ts';

const EARLY_MS = 0.4;

test('a heartbeat is not left out where a timer rings a fraction of a millisecond early', () => {
  let nowMs = 0.7;
  let ring: { run: () => void; atMs: number } | undefined;
  const sentMs: number[] = [];
  const pulse = new LinkPulse({
    config: { heartbeatMs: 10_000, deadMs: 25_000 } as never,
    elapsed: () => nowMs,
    timers: {
      setTimeout: (run, ms) => {
        ring = { run, atMs: nowMs + ms };
        return ring;
      },
      clearTimeout: () => {},
    },
    send: () => void sentMs.push(nowMs),
    running: () => 0,
    beforeBeat: () => true,
    silent: () => expect.unreachable('the peer was heard all the time'),
  });
  pulse.start();
  while (nowMs < 100_000) {
    const { run, atMs } = ring as NonNullable<typeof ring>;
    nowMs = Math.max(nowMs, atMs - EARLY_MS);
    pulse.heard();
    run();
  }
  const waitsMs = sentMs.slice(1).map((at, index) => at - (sentMs[index] as number));
  expect(sentMs.length).toBeGreaterThanOrEqual(9);
  expect(Math.max(...waitsMs)).toBeLessThan(10_002);
});
