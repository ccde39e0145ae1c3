const LOOK_MS = 50;
const WITHIN_MS = 60_000;

/** Looks again and again until there is something to see, for what tells nobody when it happens. */
export async function eventually<T>(
  look: () => Promise<T | undefined | false>,
  withinMs = WITHIN_MS,
): Promise<T> {
  const untilMs = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > untilMs) throw new Error(`it never came to be: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
