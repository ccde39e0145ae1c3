import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRateLimiter } from '../../gateway/auth/rate-limiter.ts';
import { fillLimits } from '../../shared/claims.ts';
import type { Failure } from '../../shared/errors.ts';

function createBench(maxHolders?: number) {
  const bench = {
    nowMs: 1_800_000_000_500,
    limiter: createRateLimiter({ elapsed: (): number => bench.nowMs, ...(maxHolders && { maxHolders }) }),
    /** How long to wait, or null where the request may pass. */
    take(ceiling: number | undefined, holder = 'acme/alice'): number | null {
      try {
        bench.limiter.take({ holder, limits: fillLimits({ requests_per_minute: ceiling }) });
        return null;
      } catch (error) {
        expect(error).toMatchObject({ code: 'rate_limited', status: 429, retryable: true });
        return (error as Failure).retryAfterMs ?? Number.NaN;
      }
    },
  };
  return bench;
}

describe('requests per minute', () => {
  test('pass up to the ceiling and not one past it', () => {
    const bench = createBench();
    for (let index = 0; index < 5; index += 1) expect(bench.take(5)).toBeNull();
    expect(bench.take(5)).toBeGreaterThan(0);
  });

  test('pass again after the wait that is named, and not a millisecond before', () => {
    const bench = createBench();
    for (const ceiling of [3, 3]) expect(bench.take(ceiling)).toBeNull();
    bench.nowMs += 20_000;
    expect(bench.take(3)).toBeNull();
    const wait = bench.take(3) ?? 0;
    expect(wait).toBeLessThanOrEqual(61_000);
    bench.nowMs += wait - 1;
    expect(bench.take(3)).toBe(1);
    bench.nowMs += 1;
    expect(bench.take(3)).toBeNull();
  });

  test('are never more than the ceiling in any 60 seconds, and what is refused is not counted', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(9_000), { maxLength: 200 }),
        fc.integer({ min: 1, max: 20 }),
        (steps, ceiling) => {
          const bench = createBench();
          const passed: number[] = [];
          for (const step of steps) {
            bench.nowMs += step;
            if (bench.take(ceiling) === null) passed.push(bench.nowMs);
            for (let tries = 0; tries < 3; tries += 1)
              if (bench.take(0) === null) throw new Error('0 lets nothing pass');
          }
          for (const start of passed) {
            const within = passed.filter((at) => at >= start && at < start + 60_000);
            expect(within.length).toBeLessThanOrEqual(ceiling);
          }
          bench.nowMs += 61_000;
          for (let index = 0; index < ceiling; index += 1) expect(bench.take(ceiling)).toBeNull();
        },
      ),
    );
  });

  test('count for 60 seconds, also one that came at the end of its second', () => {
    const bench = createBench();
    bench.nowMs = 1_800_000_000_999;
    expect(bench.take(1)).toBeNull();
    bench.nowMs += 59_999;
    expect(bench.take(1)).not.toBeNull();
  });

  test('are counted for each holder alone, and not at all without a ceiling', () => {
    const bench = createBench();
    expect(bench.take(1)).toBeNull();
    expect(bench.take(1)).not.toBeNull();
    expect(bench.take(1, 'acme/bob')).toBeNull();
    for (let index = 0; index < 1000; index += 1) expect(bench.take(undefined)).toBeNull();
  });

  test('of a holder with two keys count together, each against its own ceiling', () => {
    const bench = createBench();
    for (let index = 0; index < 3; index += 1) expect(bench.take(5)).toBeNull();
    expect(bench.take(2)).not.toBeNull();
    expect(bench.take(5)).toBeNull();
  });

  test('are remembered for so many holders and no more', () => {
    const bench = createBench(2);
    for (const holder of ['a', 'b', 'c']) expect(bench.take(1, holder)).toBeNull();
    expect(bench.take(1, 'c')).not.toBeNull();
    expect(bench.take(1, 'a')).toBeNull();
  });
});
