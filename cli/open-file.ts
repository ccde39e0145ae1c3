import { openAsBlob } from 'node:fs';
import { stat } from 'node:fs/promises';
import { UsageError } from './io.ts';

/** A file to upload, read as it is sent. Throws UsageError that names it where it is none. */
export async function openFile(path: string): Promise<Blob> {
  const found = await stat(path).catch((cause: Error) => {
    throw new UsageError(`cannot read ${path}: ${cause.message}`);
  });
  if (!found.isFile()) throw new UsageError(`${path} is not a regular file`);
  return openAsBlob(path);
}
