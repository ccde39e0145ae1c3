import type { Writable } from 'node:stream';
import {
  decodeFrame,
  type Frame,
  type FrameFault,
  HEADER_BYTES,
  isFault,
  readU32,
  writeHeader,
  writeU32,
} from '../../shared/frame.ts';
import { TYPE } from '../../shared/frame-type.ts';
import { MAX_CONTROL_BYTES, MAX_DATA_BYTES } from '../../shared/limits.ts';

/** `length u32 | epoch u32` before each frame's header (agent/runner/protocol.md 1.1). */
export const PREFIX_BYTES = 8;
const LEAD_BYTES = PREFIX_BYTES + HEADER_BYTES;
const TYPE_OFFSET = PREFIX_BYTES + 1;
/** Bodies up to here are copied behind their header: one buffer costs less than a second entry in the writev. */
const COPY_BELOW_BYTES = 4_096;

/** Takes chunks as they come and gives whole frames. */
export type FrameReader = {
  /**
   * Reads `chunk` and calls `onFrame` for each frame that it completes. A body is a view: of the chunk where the frame
   * lies in it whole, else of a buffer that belongs to this frame alone. At most one frame is held between calls.
   * After a fault the reader is spent.
   */
  push(chunk: Uint8Array): FrameFault | undefined;
};

/** `onFrame` returns a fault to stop at once: frames behind it in the chunk are not looked at. */
export function createFrameReader(
  epoch: number,
  onFrame: (frame: Frame) => FrameFault | undefined,
): FrameReader {
  const lead = new Uint8Array(LEAD_BYTES);
  let leadFilled = 0;
  /** A frame that spans chunks: header and body, without the prefix. */
  let partial: Uint8Array | undefined;
  let partialFilled = 0;

  function emit(message: Uint8Array): FrameFault | undefined {
    const frame = decodeFrame(message);
    return isFault(frame) ? frame : onFrame(frame);
  }

  function push(chunk: Uint8Array): FrameFault | undefined {
    let at = 0;
    while (at < chunk.byteLength) {
      if (partial === undefined && leadFilled === 0 && chunk.byteLength - at >= LEAD_BYTES) {
        const length = readU32(chunk, at);
        const fault = leadFault(chunk, at, epoch);
        if (fault) return fault;
        const end = at + LEAD_BYTES + length;
        if (end <= chunk.byteLength) {
          const stop = emit(chunk.subarray(at + PREFIX_BYTES, end));
          if (stop) return stop;
          at = end;
          continue;
        }
      }
      if (partial === undefined) {
        const taken = Math.min(LEAD_BYTES - leadFilled, chunk.byteLength - at);
        lead.set(chunk.subarray(at, at + taken), leadFilled);
        leadFilled += taken;
        at += taken;
        if (leadFilled < LEAD_BYTES) return undefined;
        const fault = leadFault(lead, 0, epoch);
        if (fault) return fault;
        partial = new Uint8Array(HEADER_BYTES + readU32(lead, 0));
        partial.set(lead.subarray(PREFIX_BYTES));
        partialFilled = HEADER_BYTES;
      }
      const taken = Math.min(partial.byteLength - partialFilled, chunk.byteLength - at);
      partial.set(chunk.subarray(at, at + taken), partialFilled);
      partialFilled += taken;
      at += taken;
      if (partialFilled < partial.byteLength) return undefined;
      const message = partial;
      partial = undefined;
      leadFilled = 0;
      const stop = emit(message);
      if (stop) return stop;
    }
    return undefined;
  }

  return { push };
}

/** Checked before a byte of the body is kept: what a sandbox announces must not decide what is allocated. */
function leadFault(source: Uint8Array, at: number, epoch: number): FrameFault | undefined {
  const length = readU32(source, at);
  const isData = source[at + TYPE_OFFSET] === TYPE.DATA;
  if (length > (isData ? MAX_DATA_BYTES : MAX_CONTROL_BYTES)) {
    return { code: 'too_large', detail: `frame body of ${length} bytes is over its bound` };
  }
  if (isData && length === 0) return { code: 'protocol_error', detail: 'DATA must carry at least one byte' };
  const theirs = readU32(source, at + 4);
  if (theirs !== epoch)
    return { code: 'protocol_error', detail: `frame of epoch ${theirs} on a stream of epoch ${epoch}` };
  return undefined;
}

/** Writes frames to a byte stream. Those of one turn of the event loop leave together. */
export type FrameWriter = {
  /** `body` is not copied when it is large: the caller must not write to it afterwards. */
  send(frame: Frame): void;
};

export function createFrameWriter(epoch: number, stream: Writable): FrameWriter {
  let corked = false;

  function flush(): void {
    corked = false;
    stream.uncork();
  }

  function send(frame: Frame): void {
    if (!corked) {
      corked = true;
      stream.cork();
      process.nextTick(flush);
    }
    const { body } = frame;
    const copied = body.byteLength <= COPY_BELOW_BYTES;
    const lead = new Uint8Array(LEAD_BYTES + (copied ? body.byteLength : 0));
    writeU32(lead, 0, body.byteLength);
    writeU32(lead, 4, epoch);
    writeHeader(lead, PREFIX_BYTES, frame);
    if (copied) lead.set(body, LEAD_BYTES);
    stream.write(lead);
    if (!copied) stream.write(body);
  }

  return { send };
}
