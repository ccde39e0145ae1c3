import { TRUNCATION_MARKER } from '../../shared/limits.ts';

const MARKER_BYTES = TRUNCATION_MARKER.length;

/** Text of output that comes in pieces: invalid UTF-8 is replaced, a character in two pieces is not. */
export function createTextStream(): { push(bytes: Uint8Array): string; end(): string } {
  // ignoreBOM keeps a BOM: it is the program's.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    push: (bytes) => decoder.decode(bytes, { stream: true }),
    end: () => decoder.decode(),
  };
}

/**
 * The same in pieces after each of which one may go on: `held` bytes at the end, half a character, are in no piece yet.
 */
export function createTextPieces(): {
  push(bytes: Uint8Array): string;
  end(): string;
  readonly held: number;
} {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let rest = new Uint8Array(0);
  return {
    push(bytes) {
      const joined = rest.byteLength === 0 ? bytes : new Uint8Array(rest.byteLength + bytes.byteLength);
      if (joined !== bytes) {
        joined.set(rest);
        joined.set(bytes, rest.byteLength);
      }
      // A byte that begins a character begins one wherever a piece ends: decoded apart, the pieces are the same text.
      const end = wholeCharacters(joined, joined.byteLength);
      rest = joined.slice(end);
      return decoder.decode(joined.subarray(0, end));
    },
    end() {
      const text = decoder.decode(rest);
      rest = new Uint8Array(0);
      return text;
    },
    get held() {
      return rest.byteLength;
    },
  };
}

/**
 * Output as one text. Truncated output ends with the marker and has, with it, at most `maxBytes` of raw bytes; a
 * character that the cut would halve is left out.
 */
export function outputText(bytes: Uint8Array, truncated: boolean, maxBytes: number): string {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  if (!truncated) return decoder.decode(bytes);
  const room = Math.max(0, maxBytes - MARKER_BYTES);
  const kept = bytes.byteLength > room ? bytes.subarray(0, wholeCharacters(bytes, room)) : bytes;
  return decoder.decode(kept) + TRUNCATION_MARKER.slice(0, maxBytes);
}

/** The longest prefix of at most `length` bytes that does not end inside a character of valid UTF-8. */
function wholeCharacters(bytes: Uint8Array, length: number): number {
  for (let back = 1; back <= 3 && back <= length; back += 1) {
    const byte = bytes[length - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    const size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return size > back ? length - back : length;
  }
  return length;
}
