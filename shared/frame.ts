/** What is wrong with a frame, in the protocol's own words. `code` picks the WebSocket close code. */
export type FrameFault = { code: 'protocol_error' | 'too_large'; detail: string };

/** One frame of `shared/protocol.md` section 2. `body` is a view, never a copy. */
export type Frame = {
  type: number;
  channel: number;
  stream: number;
  /** DATA and END: byte offset of the channel. Others: the link's control counter. */
  sequence: number;
  body: Uint8Array;
};

export const HEADER_BYTES = 16;
export const PROTOCOL_VERSION = 1;
const TWO_32 = 0x1_0000_0000;
const MAX_STREAM = 0xffff_ffff;

/** Writes the 16-byte header at `offset`. Throws RangeError when a field does not fit: a bug of the caller, not a peer's. */
export function writeHeader(target: Uint8Array, offset: number, frame: Omit<Frame, 'body'>): void {
  if (!Number.isSafeInteger(frame.sequence) || frame.sequence < 0)
    throw new RangeError('sequence must be below 2^53');
  if (!Number.isInteger(frame.stream) || frame.stream < 0 || frame.stream > MAX_STREAM)
    throw new RangeError('stream must be a u32');
  target[offset] = PROTOCOL_VERSION;
  target[offset + 1] = frame.type;
  target[offset + 2] = 0;
  target[offset + 3] = frame.channel;
  writeU32(target, offset + 4, frame.stream);
  writeU32(target, offset + 8, Math.floor(frame.sequence / TWO_32));
  writeU32(target, offset + 12, frame.sequence % TWO_32);
}

/** Header and body as one message. Copies the body once: ws would copy it to mask or to coalesce anyway. */
export function encodeFrame(frame: Frame): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(HEADER_BYTES + frame.body.byteLength);
  writeHeader(message, 0, frame);
  message.set(frame.body, HEADER_BYTES);
  return message;
}

/** Reads one whole message. Returns a fault for anything that section 2 does not allow; it never throws. */
export function decodeFrame(message: Uint8Array): Frame | FrameFault {
  if (message.byteLength < HEADER_BYTES)
    return {
      code: 'protocol_error',
      detail: `frame of ${message.byteLength} bytes is shorter than its header`,
    };
  if (message[0] !== PROTOCOL_VERSION)
    return { code: 'protocol_error', detail: `frame version ${message[0]} is not ${PROTOCOL_VERSION}` };
  if (message[2] !== 0) return { code: 'protocol_error', detail: 'frame flags must be 0' };
  const high = readU32(message, 8);
  if (high >= 0x20_0000) return { code: 'protocol_error', detail: 'frame sequence is not below 2^53' };
  return {
    type: message[1] as number,
    channel: message[3] as number,
    stream: readU32(message, 4),
    sequence: high * TWO_32 + readU32(message, 12),
    body: message.subarray(HEADER_BYTES),
  };
}

export function isFault(decoded: Frame | FrameFault): decoded is FrameFault {
  return 'code' in decoded;
}

export function writeU32(target: Uint8Array, offset: number, value: number): void {
  target[offset] = value >>> 24;
  target[offset + 1] = value >>> 16;
  target[offset + 2] = value >>> 8;
  target[offset + 3] = value;
}

export function readU32(source: Uint8Array, offset: number): number {
  return (
    (source[offset] as number) * 0x100_0000 +
    (((source[offset + 1] as number) << 16) |
      ((source[offset + 2] as number) << 8) |
      (source[offset + 3] as number))
  );
}
