import { link, readFile, readlink, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

/** How often the holder shows that it lives, and how long a silent holder of another machine or container is believed. */
const BEAT_MS = 5_000;
const STALE_MS = 15_000;
const ATTEMPTS = 3;

type Holder = { token: string; pid: number; start: string | null; space: string };

export type FolderLock = {
  /** Aborts when another process took the folder, for instance after this one was suspended. */
  readonly lost: AbortSignal;
  release(): Promise<void>;
};

/**
 * Takes the folder for this process, or rejects with a sentence that names the holder. A holder in the same PID
 * namespace is judged by its PID and start time, which survive no restart; any other by the age of its last beat,
 * since Node has no flock and a PID means nothing across containers.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = join(folder, 'lock');
  const me: Holder = { token: crypto.randomUUID(), ...(await identityOf(process.pid)) };
  const mine = `${path}.${me.token}`;
  await writeFile(mine, JSON.stringify(me), { mode: 0o600, flag: 'wx' });
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      // A hard link appears with its content, where a file opened with O_EXCL is empty for a moment.
      if (await succeeds(link(mine, path), 'EEXIST')) return holdLock(path, me);
      await evictDead(path, me, folder);
    }
  } finally {
    await rm(mine, { force: true });
  }
  throw inUse(folder, 'another process');
}

/** Removes the lock of a holder that is gone. Throws when the holder lives. */
async function evictDead(path: string, me: Holder, folder: string): Promise<void> {
  const text = await readIfThere(path);
  if (text === undefined) return;
  const holder = parseHolder(text);
  if (holder !== undefined && (await isAlive(holder, me, path))) {
    throw inUse(folder, `process ${holder.pid}${holder.space === me.space ? '' : ' of another machine'}`);
  }
  const aside = `${path}.${me.token}.dead`;
  if (!(await succeeds(rename(path, aside), 'ENOENT'))) return;
  const moved = await readFile(aside, 'utf8');
  // Between the reading and the renaming somebody else may have evicted the dead one and moved in: put it back.
  if (moved !== text) await succeeds(link(aside, path), 'EEXIST');
  await rm(aside, { force: true });
}

async function isAlive(holder: Holder, me: Holder, path: string): Promise<boolean> {
  if (holder.space === me.space) {
    const { start } = await identityOf(holder.pid);
    return isRunning(holder.pid) && start === holder.start;
  }
  const { mtimeMs } = await stat(path);
  return Date.now() - mtimeMs < STALE_MS;
}

function holdLock(path: string, me: Holder): FolderLock {
  const lost = new AbortController();
  const beat = async () => {
    const text = await readIfThere(path);
    if (text === undefined || parseHolder(text)?.token !== me.token) {
      lost.abort(new Error(`${path} was taken by another process`));
      clearInterval(timer);
      return;
    }
    const now = new Date();
    await utimes(path, now, now);
  };
  const timer = setInterval(() => void beat().catch(() => {}), BEAT_MS);
  timer.unref();
  return {
    lost: lost.signal,
    release: async () => {
      clearInterval(timer);
      const text = await readIfThere(path);
      if (text !== undefined && parseHolder(text)?.token === me.token) await rm(path, { force: true });
    },
  };
}

async function identityOf(pid: number): Promise<Omit<Holder, 'token'>> {
  const stats = await readIfThere(`/proc/${pid}/stat`);
  // Field 22, counted after the command, which may itself hold spaces and parentheses.
  const start = stats?.slice(stats.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  const boot = (await readIfThere('/proc/sys/kernel/random/boot_id'))?.trim() ?? hostname();
  const namespace = await readlink('/proc/self/ns/pid').catch(() => process.platform);
  return { pid, start, space: `${boot} ${namespace}` };
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function parseHolder(text: string): Holder | undefined {
  try {
    const holder = JSON.parse(text) as Partial<Holder>;
    return typeof holder.pid === 'number' &&
      typeof holder.token === 'string' &&
      typeof holder.space === 'string'
      ? { token: holder.token, pid: holder.pid, start: holder.start ?? null, space: holder.space }
      : undefined;
  } catch {
    return undefined;
  }
}

function inUse(folder: string, holder: string): Error {
  return new Error(
    `the file store in ${folder} is in use by ${holder}; a folder serves one gateway: stop the other or set FILE_STORAGE_DIR`,
  );
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** False where it failed with exactly `code`. */
async function succeeds(operation: Promise<unknown>, code: string): Promise<boolean> {
  try {
    await operation;
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === code) return false;
    throw error;
  }
}
