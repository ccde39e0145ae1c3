/**
 * Executions before the clock. V8 optimizes what ran 3,000 times, and most of a gateway's and an agent's code runs once an
 * execution: asked one by one, their processor time of each falls from 1.1 and 0.9 ms in the first 2,000 to 0.65 and 0.6
 * after 6,000, and stays there until 16,000 (bench/README.md).
 */
export const WARM_UP = 6_000;

export async function warmUp(run: () => Promise<unknown>): Promise<void> {
  for (let turn = 0; turn < WARM_UP; turn += 1) await run();
}
