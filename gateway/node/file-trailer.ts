import { type FileHandle, open } from 'node:fs/promises';
import * as z from 'zod';
import type { FileMeta } from '../files/file-store.ts';

/**
 * What stands behind a stored file's bytes: JSON, its length as u32 big endian, eight bytes of magic. Metadata in the
 * same file cannot be lost, nor left behind, without it.
 */
const MAGIC = new TextEncoder().encode('PODGATE1');
const TAIL_BYTES = 4 + MAGIC.byteLength;
const MAX_JSON_BYTES = 8_192;

const trailerSchema = z.object({
  account: z.string().regex(/^[0-9a-f]{64}$/),
  filename: z.string().min(1),
  size_bytes: z.int().min(0),
  upload_time: z.number(),
});

/** `holder` is the digest of where the file's bytes count; files that were stored have it as `account`. */
export type StoredFile = FileMeta & { holder: string };

export function encodeTrailer(file: StoredFile): Uint8Array<ArrayBuffer> {
  const { holder, filename, size_bytes, upload_time } = file;
  const json = new TextEncoder().encode(
    JSON.stringify({ account: holder, filename, size_bytes, upload_time }),
  );
  if (json.byteLength > MAX_JSON_BYTES) throw new RangeError('the filename is too long');
  const trailer = new Uint8Array(json.byteLength + TAIL_BYTES);
  trailer.set(json);
  new DataView(trailer.buffer).setUint32(json.byteLength, json.byteLength);
  trailer.set(MAGIC, json.byteLength + 4);
  return trailer;
}

/** Undefined for a file that has no whole trailer, or whose size differs from what the trailer says. */
export async function readTrailer(path: string, id: string): Promise<StoredFile | undefined> {
  await using handle = await open(path, 'r');
  const { size } = await handle.stat();
  const tail = await readAt(handle, size - TAIL_BYTES, TAIL_BYTES);
  if (tail === undefined || !MAGIC.every((byte, index) => tail[index + 4] === byte)) return undefined;
  const length = new DataView(tail.buffer).getUint32(0);
  const json =
    length <= MAX_JSON_BYTES ? await readAt(handle, size - TAIL_BYTES - length, length) : undefined;
  if (json === undefined) return undefined;
  const trailer = trailerSchema.safeParse(parseJson(new TextDecoder().decode(json)));
  if (!trailer.success || trailer.data.size_bytes !== size - TAIL_BYTES - length) return undefined;
  const { account, ...meta } = trailer.data;
  return { file_id: id, holder: account, ...meta };
}

async function readAt(
  handle: FileHandle,
  position: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  if (position < 0) return undefined;
  const bytes = new Uint8Array(length);
  const { bytesRead } = await handle.read(bytes, 0, length, position);
  return bytesRead === length ? bytes : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
