import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeFrame,
  encodeFrame,
  type Frame,
  HEADER_BYTES,
  isFault,
  writeHeader,
} from '../../shared/frame.ts';

const frames: fc.Arbitrary<Frame> = fc.record({
  type: fc.integer({ min: 0, max: 255 }),
  channel: fc.integer({ min: 0, max: 255 }),
  stream: fc.integer({ min: 0, max: 0xffff_ffff }),
  sequence: fc.maxSafeInteger().map(Math.abs),
  body: fc.uint8Array({ maxLength: 512 }),
});

describe('the frame codec', () => {
  test('gives back every frame that it wrote', () => {
    fc.assert(
      fc.property(frames, (frame) => {
        const decoded = decodeFrame(encodeFrame(frame));
        if (isFault(decoded)) throw new Error(decoded.detail);
        expect({ ...decoded, body: [...decoded.body] }).toEqual({ ...frame, body: [...frame.body] });
      }),
    );
  });

  test('reads any bytes without throwing, and what it takes for a frame is one', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const decoded = decodeFrame(bytes);
        if (!isFault(decoded)) expect([...encodeFrame(decoded)]).toEqual([...bytes]);
      }),
    );
  });

  test('refuses every message that is shorter than a header', () => {
    const whole = encodeFrame({ type: 1, channel: 0, stream: 1, sequence: 1, body: new Uint8Array() });
    for (let length = 0; length < HEADER_BYTES; length += 1)
      expect(decodeFrame(whole.subarray(0, length))).toMatchObject({ code: 'protocol_error' });
    expect(isFault(decodeFrame(whole))).toBe(false);
  });

  test.for([
    ['another version', 0, 2],
    ['a flag', 2, 1],
    ['a sequence of 2^53', 9, 0x20],
  ] as const)('refuses %s', ([, offset, value]) => {
    const message = encodeFrame({ type: 1, channel: 0, stream: 1, sequence: 1, body: new Uint8Array() });
    message[offset] = value;
    expect(decodeFrame(message)).toMatchObject({ code: 'protocol_error' });
  });

  test.for([
    [{ sequence: 2 ** 53 }],
    [{ sequence: -1 }],
    [{ sequence: 0.5 }],
    [{ stream: 2 ** 32 }],
    [{ stream: -1 }],
  ])('does not write %j', ([changes]) => {
    const header = { type: 1, channel: 0, stream: 1, sequence: 1, ...changes };
    expect(() => writeHeader(new Uint8Array(16), 0, header)).toThrow(RangeError);
  });

  test('writes the largest sequence and stream that there are', () => {
    const frame = {
      type: 255,
      channel: 255,
      stream: 2 ** 32 - 1,
      sequence: 2 ** 53 - 1,
      body: new Uint8Array(),
    };
    expect(decodeFrame(encodeFrame(frame))).toMatchObject({ stream: 2 ** 32 - 1, sequence: 2 ** 53 - 1 });
  });
});
