import { describe, expect, test } from 'vitest';
import { Chunk } from '../../shared/chunk.ts';
import { MAX_DATA_BYTES } from '../../shared/limits.ts';

/** What a socket is read into at once. */
const READ_BYTES = 65_536;

describe('bytes that wait', () => {
  test.each([1, 4_096, 4_097, READ_BYTES / 2 - 1])(
    'do not keep what a socket read them with, where it is more than twice as large: %i bytes',
    (length) => {
      const { bytes } = new Chunk(Buffer.alloc(READ_BYTES, 7).subarray(1, 1 + length));
      expect(bytes.buffer.byteLength).toBe(length);
      expect(bytes).toEqual(new Uint8Array(length).fill(7));
    },
  );

  test('are not copied where they are most of it', () => {
    const read = Buffer.alloc(READ_BYTES);
    expect(new Chunk(read.subarray(0, MAX_DATA_BYTES)).bytes.buffer).toBe(read.buffer);
  });

  test('stay as they came, whatever becomes of what they were read into', () => {
    const read = Buffer.from('first second');
    const chunk = new Chunk(read.subarray(0, 5));
    expect(chunk.append(read.subarray(5))).toBe(true);
    read.fill(0);
    expect(Buffer.from(chunk.bytes).toString()).toBe('first second');
  });
});
