const DRAWN_BYTES = 4_096;

/**
 * Random bytes from the platform's generator, drawn many at a time: a draw of a few takes 0.1 ms where its code has left
 * the caches, and a request waits for it. No byte is given twice, and none stays here once it is given.
 *
 * @param draw - Fills what it gets.
 * @returns As many bytes as asked for.
 */
export function createRandomSource(
  draw: (bytes: Uint8Array<ArrayBuffer>) => void = (bytes) => void crypto.getRandomValues(bytes),
): (bytes: number) => Uint8Array<ArrayBuffer> {
  const drawn = new Uint8Array(DRAWN_BYTES);
  let used = DRAWN_BYTES;

  return (bytes) => {
    if (bytes > DRAWN_BYTES) throw new RangeError(`At most ${DRAWN_BYTES} random bytes at once.`);
    if (used + bytes > DRAWN_BYTES) {
      draw(drawn);
      used = 0;
    }
    const given = drawn.slice(used, used + bytes);
    drawn.fill(0, used, used + bytes);
    used += bytes;
    return given;
  };
}
