import type { Terminal } from '../client/podgate.ts';

/** What is typed while nobody hears it, and what may have been lost with a connection. */
export const MAX_TYPED_BYTES = 65_536;

/** Sends what is typed, each byte once, also across connections: the terminal says how much it has had. */
export type TypedInput = {
  push(bytes: Uint8Array<ArrayBuffer>): void;
  /** A new connection takes what the one before did not. */
  attach(terminal: Terminal): void;
  detach(): void;
  /** Bytes that were too many to be kept, and that no connection had, as far as is known. */
  readonly lost: number;
};

export function createTypedInput(): TypedInput {
  let terminal: Terminal | undefined;
  let kept = new Uint8Array(0);
  /** Where `kept` begins, in all that was typed. */
  let from = 0;
  let lost = 0;

  return {
    push(bytes) {
      if (!terminal && kept.byteLength + bytes.byteLength > MAX_TYPED_BYTES) {
        lost += bytes.byteLength;
        return;
      }
      const joined = new Uint8Array(kept.byteLength + bytes.byteLength);
      joined.set(kept);
      joined.set(bytes, kept.byteLength);
      const excess = Math.max(0, joined.byteLength - MAX_TYPED_BYTES);
      kept = joined.slice(excess);
      from += excess;
      terminal?.write(bytes);
    },
    attach(given) {
      terminal = given;
      const taken = given.state.input_offset ?? from + kept.byteLength;
      lost += Math.max(0, from - taken);
      kept = kept.slice(Math.max(0, taken - from));
      // Also where what lies between is lost: the terminal counts what it is sent now from here on.
      from = taken;
      if (kept.byteLength > 0) given.write(kept);
    },
    detach() {
      terminal = undefined;
    },
    get lost() {
      return lost;
    },
  };
}
