/** Value below which `share` of the sorted samples lie. */
export function percentile(samples: readonly number[], share: number): number {
  if (samples.length === 0) throw new RangeError('no samples');
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number;
}

export function p50(samples: readonly number[]): number {
  return percentile(samples, 0.5);
}

export function p99(samples: readonly number[]): number {
  return percentile(samples, 0.99);
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/**
 * Runs two kinds of work in turns, so that a noisy machine disturbs both alike, and gives the samples of each in ms.
 */
export async function interleaved(
  rounds: number,
  figure: () => Promise<unknown>,
  baseline: () => Promise<unknown>,
  figuresPerRound = 5,
): Promise<{ figure: number[]; baseline: number[] }> {
  const samples = { figure: [] as number[], baseline: [] as number[] };
  for (let round = 0; round < rounds; round += 1) {
    for (let turn = 0; turn < figuresPerRound; turn += 1) samples.figure.push(await timed(figure));
    samples.baseline.push(await timed(baseline));
  }
  return samples;
}

/** Completed units of work a second with `inFlight` at once, over `total` units. */
export async function throughput(
  total: number,
  inFlight: number,
  work: () => Promise<unknown>,
): Promise<number> {
  let left = total;
  const start = performance.now();
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (left > 0) {
        left -= 1;
        await work();
      }
    }),
  );
  return (total * 1000) / (performance.now() - start);
}
