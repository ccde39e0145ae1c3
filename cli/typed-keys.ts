const [TILDE, DOT, CR, LF] = [0x7e, 0x2e, 0x0d, 0x0a];

/** Finds `~.` at the beginning of a line, as ssh has it; `~~` is one tilde. */
export type TypedKeys = {
  /** What is for the program; `leaves` where the user wants to go. */
  push(bytes: Uint8Array): { bytes: Uint8Array<ArrayBuffer>; leaves: boolean };
};

export function createTypedKeys(): TypedKeys {
  let isLineStart = true;
  let isHeld = false;

  return {
    push(bytes) {
      const passed: number[] = [];
      for (const byte of bytes) {
        if (isHeld) {
          isHeld = false;
          if (byte === DOT) return { bytes: Uint8Array.from(passed), leaves: true };
          passed.push(TILDE);
          isLineStart = false;
          if (byte === TILDE) continue;
        } else if (isLineStart && byte === TILDE) {
          isHeld = true;
          continue;
        }
        passed.push(byte);
        isLineStart = byte === CR || byte === LF;
      }
      return { bytes: Uint8Array.from(passed), leaves: false };
    },
  };
}
