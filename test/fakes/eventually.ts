const FIRST_LOOK_MS = 5;
const LAST_LOOK_MS = 100;
const WITHIN_MS = 60_000;

/** Looks again and again until there is something to see, ever more seldom: for what only a question over the wire tells. */
export async function eventually<T>(
  look: () => Promise<T | undefined | false>,
  withinMs = WITHIN_MS,
): Promise<T> {
  const untilMs = performance.now() + withinMs;
  for (let lookMs = FIRST_LOOK_MS; ; lookMs = Math.min(LAST_LOOK_MS, lookMs * 1.5)) {
    const found = await look();
    if (found) return found;
    if (performance.now() > untilMs) throw new Error(`it never came to be: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, lookMs));
  }
}
