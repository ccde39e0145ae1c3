import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Flight } from '../../shared/flight.ts';
import { LINK_ACK_BYTES, LINK_WINDOW_BYTES } from '../../shared/limits.ts';

/** A wire that drains `bytesPerMs` in order and answers `delayMs` later; the sender always has more. */
function saturate(flight: Flight, bytesPerMs: number, delayMs: number, forMs: number) {
  const arrivals: { atMs: number; total: number }[] = [];
  let sent = 0;
  let taken = 0;
  let wireFreeAt = 0;
  let worstQueueMs = 0;
  for (let now = 0; now < forMs; now += 0.25) {
    while (arrivals[0] && arrivals[0].atMs <= now) {
      taken = (arrivals.shift() as { total: number }).total;
      flight.taken(taken, now, true);
    }
    while (sent - taken + LINK_ACK_BYTES <= flight.window) {
      sent += LINK_ACK_BYTES;
      wireFreeAt = Math.max(wireFreeAt, now) + LINK_ACK_BYTES / bytesPerMs;
      arrivals.push({ atMs: wireFreeAt + delayMs, total: sent });
      flight.sent(sent, taken, now);
      if (now > forMs / 2) worstQueueMs = Math.max(worstQueueMs, wireFreeAt - now);
    }
  }
  return { taken, worstQueueMs };
}

describe('bytes in flight', () => {
  it('fill a narrow wire without a queue that holds control frames up for 25 ms', () => {
    const flight = new Flight();
    const { taken, worstQueueMs } = saturate(flight, 10_000, 1, 5_000);
    expect(worstQueueMs).toBeLessThan(25);
    expect(taken).toBeGreaterThan(0.8 * 10_000 * 5_000);
  });

  it('grow on a wide wire that is far away, past what they begin with', () => {
    const flight = new Flight();
    const { taken } = saturate(flight, 100_000, 50, 20_000);
    expect(flight.window).toBeGreaterThan(1_048_576);
    expect(taken).toBeGreaterThan(20_000_000 * 4);
  });

  it('stay between two acknowledgements and the credit, whatever the delays', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ step: fc.nat(5_000), bytes: fc.nat(200_000), held: fc.boolean() })),
        (events) => {
          const flight = new Flight();
          let now = 0;
          let sent = 0;
          for (const { step, bytes, held } of events) {
            sent += bytes;
            flight.sent(sent, Math.max(0, sent - bytes), now);
            now += step;
            flight.taken(sent, now, held);
            expect(flight.window).toBeGreaterThanOrEqual(2 * LINK_ACK_BYTES);
            expect(flight.window).toBeLessThanOrEqual(LINK_WINDOW_BYTES);
          }
        },
      ),
    );
  });
});
