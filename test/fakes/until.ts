const GIVE_UP_MS = 15_000;
/** Turns without a pause: most things come to pass within a few. */
const EAGER_TURNS = 200;

/** Waits, turn by turn of the event loop, until something is so: for events that no promise tells. */
export async function until(isSo: () => boolean): Promise<void> {
  const startedMs = performance.now();
  for (let turn = 0; performance.now() - startedMs < GIVE_UP_MS; turn += 1) {
    if (isSo()) return;
    await new Promise<void>((resolve) => {
      if (turn < EAGER_TURNS) setImmediate(resolve);
      else setTimeout(resolve, 1);
    });
  }
  throw new Error(`it never came to pass: ${isSo}`);
}
