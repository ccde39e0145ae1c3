const MAX_TURNS = 20_000;

/** Waits, turn by turn of the event loop, until something is so: for events that no promise tells. */
export async function until(isSo: () => boolean): Promise<void> {
  for (let turn = 0; turn < MAX_TURNS; turn += 1) {
    if (isSo()) return;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  throw new Error(`it never came to pass: ${isSo}`);
}
