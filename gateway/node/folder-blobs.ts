import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../../shared/errors.ts';
import { storeFull } from '../files/file-ledger.ts';
import type { Blobs } from '../files/indexed-file-store.ts';
import type { FileSink } from '../files/reserved-writer.ts';
import { encodeTrailer } from './file-trailer.ts';

const READ_BYTES = 65_536;
const FULL_DISK = ['ENOSPC', 'EDQUOT'];
/** The process, or the machine, has no descriptor left: those of others are given back at their ends. */
const NO_DESCRIPTOR = ['EMFILE', 'ENFILE'];
const DESCRIPTOR_RETRY_MS = 1_000;

/** `incoming/<id>` while it is written, `owners/<digest of its principal>/<id>` once it is whole. */
export type StoreFolders = { incoming: string; owners: string };

/** Blobs as files of a folder, each with its metadata as a trailer, so that one rename makes both visible. */
export function createFolderBlobs({ incoming, owners }: StoreFolders): Blobs {
  const pathOf = (principal: string, id: string) => join(owners, principal, id);
  // A principal's last file may go, and its folder with it, as the next one comes.
  const inTurn = createTurns();
  return {
    begin({ principal, holder }, id) {
      const directory = join(owners, principal);
      const whenFree = (work: () => Promise<void>) => inTurn(principal, work);
      return beginFile({ temporary: join(incoming, id), directory, id, holder, whenFree });
    },

    async open(principal, meta, signal) {
      const handle = await openIfThere(pathOf(principal, meta.file_id));
      return handle && streamFile(handle, meta.size_bytes, signal);
    },

    async remove(principal, id) {
      await rm(pathOf(principal, id), { force: true });
      // Fails while the principal has other files, or is gone already: either is fine.
      await inTurn(principal, () => rmdir(join(owners, principal)).catch(() => {}));
    },
  };
}

/** One piece of work after the other of each principal. */
function createTurns() {
  const lasts = new Map<string, Promise<void>>();
  return async (principal: string, work: () => Promise<void>): Promise<void> => {
    const own = (lasts.get(principal) ?? Promise.resolve()).then(work);
    const last = own.catch(() => {});
    lasts.set(principal, last);
    try {
      await own;
    } finally {
      if (lasts.get(principal) === last) lasts.delete(principal);
    }
  };
}

type Place = {
  temporary: string;
  directory: string;
  id: string;
  holder: string;
  /** Runs what makes or removes the directory. */
  whenFree(work: () => Promise<void>): Promise<void>;
};

async function beginFile({ temporary, directory, id, holder, whenFree }: Place): Promise<FileSink> {
  const handle = await open(temporary, 'wx', 0o600).catch(onNoDescriptor).catch(onFullDisk);
  return {
    append: (chunk) => writeAll(handle, chunk),

    async publish(meta) {
      await writeAll(handle, encodeTrailer({ ...meta, holder }));
      // Without this, power lost after the rename could leave a whole name with half a content.
      await handle.datasync().catch(onFullDisk);
      await handle.close();
      await whenFree(async () => {
        await mkdir(directory, { recursive: true, mode: 0o700 });
        await rename(temporary, join(directory, id));
      }).catch(onFullDisk);
    },

    async discard() {
      await handle.close().catch(() => {});
      await rm(temporary, { force: true });
    },
  };
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let offset = 0; offset < chunk.byteLength; ) {
    const { bytesWritten } = await handle.write(chunk, offset).catch(onFullDisk);
    offset += bytesWritten;
  }
}

function onFullDisk(error: NodeJS.ErrnoException): never {
  throw FULL_DISK.includes(error.code ?? '') ? storeFull(error) : error;
}

function onNoDescriptor(cause: NodeJS.ErrnoException): never {
  if (!NO_DESCRIPTOR.includes(cause.code ?? '')) throw cause;
  const options = { cause, retryAfterMs: DESCRIPTOR_RETRY_MS };
  throw new Failure('at_capacity', 'The gateway has too many files and connections open.', options);
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    return onNoDescriptor(error as NodeJS.ErrnoException);
  }
}

/** The first `size` bytes, read as they are asked for. The handle is closed at the end, at cancel and at abort. */
function streamFile(
  handle: FileHandle,
  size: number,
  signal: AbortSignal | undefined,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let position = 0;
  let onAbort: (() => void) | undefined;
  const finish = async () => {
    if (onAbort) signal?.removeEventListener('abort', onAbort);
    await handle.close().catch(() => {});
  };
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      start(controller) {
        onAbort = () => {
          controller.error(signal?.reason);
          void finish();
        };
        signal?.addEventListener('abort', onAbort, { once: true });
        if (signal?.aborted) onAbort();
      },
      async pull(controller) {
        try {
          const chunk = new Uint8Array(Math.min(READ_BYTES, size - position));
          const { bytesRead } =
            chunk.byteLength > 0 ? await handle.read(chunk, 0, chunk.byteLength, position) : { bytesRead: 0 };
          if (signal?.aborted) return;
          position += bytesRead;
          if (bytesRead > 0) controller.enqueue(chunk.subarray(0, bytesRead));
          else if (position < size) throw new Error('the stored file is shorter than it was');
          if (position === size) {
            await finish();
            controller.close();
          }
        } catch (error) {
          await finish();
          throw error;
        }
      },
      cancel: finish,
    },
    // Nothing is read before somebody asks.
    { highWaterMark: 0 },
  );
}
