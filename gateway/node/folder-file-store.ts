import { chmod, readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../../shared/errors.ts';
import type { FileStoreLimits, Holding } from '../files/file-ledger.ts';
import type { FileMeta, FileStore } from '../files/file-store.ts';
import { IndexedFileStore } from '../files/indexed-file-store.ts';
import { readTrailer } from './file-trailer.ts';
import { createFolderBlobs, type StoreFolders } from './folder-blobs.ts';
import { lockFolder } from './folder-lock.ts';
import { makeFolder } from './make-folder.ts';

export type FolderFileStoreOptions = {
  /** Made when it is not there. Beside `lock.*`, `incoming` and `owners` nothing in it is touched. */
  directory: string;
  limits: FileStoreLimits;
  /** Milliseconds since 1970. */
  now?: () => number;
  sweepEveryMs?: number;
  /** What the sweeper could not do; it goes on at its next turn. A file that it cannot remove is told once. */
  onFault?: (cause: unknown) => void;
};

export type FolderFileStore = FileStore &
  AsyncDisposable & {
    /** Removes what has expired; returns how many files went. A timer calls it too. */
    sweep(): Promise<number>;
    /** Aborts open writers, ends the timer and lets go of the folder. Idempotent. */
    close(): Promise<void>;
  };

const SWEEP_MS = 30_000;
const SCAN_AT_ONCE = 32;
const DIGEST = /^[0-9a-f]{64}$/;
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * A FileStore in a folder, for one gateway replica: rejects while another live process holds the folder. What a crash
 * left half written is removed here; files that were whole are there again.
 */
export async function openFolderFileStore(options: FolderFileStoreOptions): Promise<FolderFileStore> {
  const { directory, limits, now = Date.now, sweepEveryMs = SWEEP_MS, onFault = () => {} } = options;
  const folders = { incoming: join(directory, 'incoming'), owners: join(directory, 'owners') };
  for (const path of [directory, folders.incoming, folders.owners]) {
    await makeFolder(path, 0o700).catch((cause: NodeJS.ErrnoException) => {
      const advice = 'let this user write there, or set FILE_STORAGE_DIR';
      throw new Error(`The folder ${path} cannot be made (${cause.code}): ${advice}`);
    });
  }
  await Promise.all(Object.values(folders).map((path) => chmod(path, 0o700)));
  const lock = await lockFolder(directory);
  try {
    await removeUnfinished(folders.incoming);
    const existing = await scan(folders);
    const store = new IndexedFileStore({ blobs: createFolderBlobs(folders), limits, now, existing, onFault });
    await store.sweep();
    return withLifeCycle(store, lock, { sweepEveryMs, onFault });
  } catch (error) {
    await lock.release();
    throw error;
  }
}

function withLifeCycle(
  store: IndexedFileStore,
  lock: Awaited<ReturnType<typeof lockFolder>>,
  { sweepEveryMs, onFault }: { sweepEveryMs: number; onFault: (cause: unknown) => void },
): FolderFileStore {
  let closing: Promise<void> | undefined;
  const sweep = () => guarded(() => store.sweep());
  const timer = setInterval(() => void sweep().catch(onFault), sweepEveryMs);
  timer.unref();
  // What they publish nobody would find, count or sweep.
  const lost = () => {
    clearInterval(timer);
    onFault(lock.lost.reason);
    void store.close();
  };
  lock.lost.addEventListener('abort', lost, { once: true });
  const guarded = async <Result>(call: () => Promise<Result>): Promise<Result> => {
    if (closing !== undefined) throw new Failure('draining', 'The file store is closed');
    if (lock.lost.aborted) {
      throw new Failure('internal', 'The file store was taken by another process', {
        cause: lock.lost.reason,
      });
    }
    return call();
  };
  const close = () => {
    closing ??= (async () => {
      clearInterval(timer);
      await store.close();
      await lock.release();
    })();
    return closing;
  };
  return {
    create: (principal, options) => guarded(() => store.create(principal, options)),
    stat: (principal, id) => guarded(() => store.stat(principal, id)),
    open: (principal, id, signal) => guarded(() => store.open(principal, id, signal)),
    list: (principal, options) => guarded(() => store.list(principal, options)),
    delete: (principal, id) => guarded(() => store.delete(principal, id)),
    usage: (holder) => guarded(() => store.usage(holder)),
    sweep,
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function removeUnfinished(incoming: string): Promise<void> {
  for (const name of await readdir(incoming)) {
    if (ID.test(name)) await rm(join(incoming, name), { force: true });
  }
}

/** Every whole file, oldest first. A file named like ours that is not whole was torn by a power cut, and goes. */
async function scan({ owners }: StoreFolders): Promise<(Holding & { meta: FileMeta })[]> {
  const found: (Holding & { meta: FileMeta })[] = [];
  for (const principal of await readdir(owners)) {
    if (!DIGEST.test(principal)) continue;
    const names = (await readdir(join(owners, principal))).filter((name) => ID.test(name));
    for (let start = 0; start < names.length; start += SCAN_AT_ONCE) {
      const batch = names.slice(start, start + SCAN_AT_ONCE).map(async (id) => {
        const path = join(owners, principal, id);
        const stored = await readTrailer(path, id);
        if (stored === undefined) return rm(path, { force: true });
        const { holder, ...meta } = stored;
        found.push({ principal, holder, meta });
      });
      await Promise.all(batch);
    }
    if (names.length === 0) await rmdir(join(owners, principal)).catch(() => {});
  }
  return found.sort((a, b) => a.meta.upload_time - b.meta.upload_time);
}
