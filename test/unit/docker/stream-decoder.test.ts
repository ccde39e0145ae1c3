import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createStreamDecoder, STREAM_HEADER_BYTES } from '../../../agent/backends/docker/stream-decoder.ts';

/** A piece as an engine sends it: of its stdout, its stderr or its own words. */
function encodeStreamPiece(type: 1 | 2 | 3, piece: Uint8Array): Buffer {
  const header = Buffer.alloc(STREAM_HEADER_BYTES);
  header[0] = type;
  header.writeUInt32BE(piece.byteLength, 4);
  return Buffer.concat([header, piece]);
}

function decode(chunks: readonly Uint8Array[]) {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  const decoder = createStreamDecoder({
    onStdout: (piece) => out.push(Buffer.from(piece)),
    onStderr: (piece) => err.push(Buffer.from(piece)),
  });
  let fault: string | undefined;
  for (const chunk of chunks) fault ??= decoder.push(Buffer.from(chunk));
  return { out: Buffer.concat(out), err: Buffer.concat(err), fault, isWhole: decoder.isWhole };
}

/** `bytes` cut at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...new Set(places.map((place) => place % (bytes.byteLength + 1)))].sort((a, b) => a - b);
  return [0, ...ends].map((from, index) => bytes.subarray(from, ends[index] ?? bytes.byteLength));
}

describe("an engine's stream", () => {
  test('comes apart into the same bytes wherever it is cut', () => {
    const piece = fc.tuple(fc.constantFrom(1, 2, 3), fc.uint8Array({ maxLength: 64 }));
    fc.assert(
      fc.property(fc.array(piece), fc.array(fc.nat()), (pieces, places) => {
        const bytes = Buffer.concat(pieces.map(([type, body]) => encodeStreamPiece(type as 1, body)));
        const of = (isOut: boolean) =>
          Buffer.concat(pieces.filter(([type]) => (type === 1) === isOut).map(([, body]) => body));
        expect(decode(cut(bytes, places))).toEqual({
          out: of(true),
          err: of(false),
          fault: undefined,
          isWhole: true,
        });
      }),
    );
  });

  test('hands a piece on before it is complete, whatever length it announces', () => {
    const header = Buffer.from([1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    expect(decode([header, Buffer.from('begun')])).toMatchObject({
      out: Buffer.from('begun'),
      isWhole: false,
    });
  });

  test.for([0, 4, 255])('with the type %i is none', (type) => {
    expect(decode([Buffer.from([type, 0, 0, 0, 0, 0, 0, 1, 65])])).toMatchObject({
      fault: expect.stringContaining('header'),
      out: Buffer.alloc(0),
    });
  });

  test.for([1, 2, 3])('with something in byte %i of a header is none', (at) => {
    const bytes = encodeStreamPiece(1, Buffer.from('x'));
    bytes[at] = 1;
    expect(decode([bytes]).fault).toContain('header');
  });

  test('is not whole in the middle of a header or of a piece', () => {
    const bytes = encodeStreamPiece(1, Buffer.from('xy'));
    for (let end = 1; end < bytes.byteLength; end += 1)
      expect(decode([bytes.subarray(0, end)]).isWhole).toBe(false);
    expect(decode([bytes]).isWhole).toBe(true);
    expect(STREAM_HEADER_BYTES).toBe(8);
  });
});
