/** `type u8 | 0 | 0 | 0 | length u32`, big endian, before each piece of a stream without a terminal. */
export const STREAM_HEADER_BYTES = 8;
const STDOUT = 1;
/** The engine's own words, from API 1.42 on. */
const SYSTEM = 3;

/** Takes an engine's stream apart. Holds at most one header: pieces are handed on as they come, whatever length they announce. */
export type StreamDecoder = {
  /** Returns what is wrong with the stream; after that the decoder is spent. */
  push(chunk: Buffer): string | undefined;
  /** The stream may end here: nothing that was announced is missing. */
  readonly isWhole: boolean;
};

export type StreamHandlers = {
  onStdout: (piece: Buffer) => void;
  /** What the command or the engine has to say. */
  onStderr: (piece: Buffer) => void;
};

export function createStreamDecoder({ onStdout, onStderr }: StreamHandlers): StreamDecoder {
  const header = Buffer.alloc(STREAM_HEADER_BYTES);
  let headerFilled = 0;
  let left = 0;
  let onPiece = onStdout;

  function push(chunk: Buffer): string | undefined {
    let at = 0;
    while (at < chunk.byteLength) {
      if (left > 0) {
        const piece = chunk.subarray(at, at + left);
        left -= piece.byteLength;
        at += piece.byteLength;
        onPiece(piece);
        continue;
      }
      const taken = chunk.copy(header, headerFilled, at, at + STREAM_HEADER_BYTES - headerFilled);
      headerFilled += taken;
      at += taken;
      if (headerFilled < STREAM_HEADER_BYTES) return undefined;
      headerFilled = 0;
      const fault = begin();
      if (fault) return fault;
    }
    return undefined;
  }

  function begin(): string | undefined {
    const type = header[0];
    if (header.readUIntBE(1, 3) !== 0 || type === undefined || type < STDOUT || type > SYSTEM)
      return `has a header that is none (${header.toString('hex')})`;
    onPiece = type === STDOUT ? onStdout : onStderr;
    left = header.readUInt32BE(4);
    return undefined;
  }

  return {
    push,
    get isWhole() {
      return left === 0 && headerFilled === 0;
    },
  };
}
