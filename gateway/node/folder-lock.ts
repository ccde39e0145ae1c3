import { link, readdir, readFile, readlink, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

/** How often the holder shows that it lives, and how long a silent holder of another machine or container is believed. */
const BEAT_MS = 5_000;
const STALE_MS = 15_000;
const ATTEMPTS = 10;

type LockHolder = { token: string; pid: number; start: string | null; space: string };
type Generation = { number: number; holder: LockHolder | undefined };

export type FolderLock = {
  /** Aborts when another process took the folder, for instance after this one was suspended. */
  readonly lost: AbortSignal;
  release(): Promise<void>;
};

/**
 * Takes the folder for this process, or rejects with a sentence that names the holder. A holder in the same PID
 * namespace is judged by its PID and start time, which survive no restart; any other by the age of its last beat,
 * since Node has no flock and a PID means nothing across containers.
 *
 * `lock.<n>` with the highest n is the lock. To follow a holder that is gone is to be the one whose hard link makes
 * n + 1: nobody ever removes a lock that might be somebody's, which is where takeovers by unlinking go wrong. A link
 * also appears with its content, where a file opened with O_EXCL is empty for a moment.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const me: LockHolder = { token: crypto.randomUUID(), ...(await identityOf(process.pid)) };
  const mine = join(folder, `lock-${me.token}`);
  await writeFile(mine, JSON.stringify(me), { mode: 0o600, flag: 'wx' });
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { number, holder } = await readHighest(folder);
      const path = pathOf(folder, number);
      if (holder !== undefined && (await isAlive(holder, me, path))) throw inUse(folder, holder, me);
      const next = number + 1;
      if (!(await succeeds(link(mine, pathOf(folder, next)), 'EEXIST'))) continue;
      // Whoever slept since it read the folder may have made a number that has been and gone.
      const older = await readGenerations(folder);
      if (older[0] !== next) {
        await rm(pathOf(folder, next), { force: true });
        continue;
      }
      for (const each of older.slice(1)) await rm(pathOf(folder, each), { force: true });
      return holdLock(folder, next, me);
    }
  } finally {
    await rm(mine, { force: true });
  }
  throw inUse(folder, undefined, me);
}

const pathOf = (folder: string, generation: number) => join(folder, `lock.${generation}`);

/** Numbers that exist, highest first. */
async function readGenerations(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .flatMap((name) => /^lock\.([1-9]\d{0,14})$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => b - a);
}

/** Holder is undefined where it let go, or where its file was torn by a power cut. */
async function readHighest(folder: string): Promise<Generation> {
  const [number = 0] = await readGenerations(folder);
  const text = number > 0 ? await readIfThere(pathOf(folder, number)) : undefined;
  return { number, holder: text === undefined ? undefined : parseHolder(text) };
}

async function isAlive(holder: LockHolder, me: LockHolder, path: string): Promise<boolean> {
  if (holder.space === me.space) {
    const { start } = await identityOf(holder.pid);
    return isRunning(holder.pid) && start === holder.start;
  }
  const beat = await stat(path).catch(() => undefined);
  return beat !== undefined && Date.now() - beat.mtimeMs < STALE_MS;
}

function holdLock(folder: string, generation: number, me: LockHolder): FolderLock {
  const path = pathOf(folder, generation);
  const lost = new AbortController();
  const isMine = async () => {
    const { number, holder } = await readHighest(folder);
    return number === generation && holder?.token === me.token;
  };
  const beat = async () => {
    const now = new Date();
    if (await isMine()) return utimes(path, now, now);
    lost.abort(new Error(`${folder} was taken by another process`));
    clearInterval(timer);
  };
  const timer = setInterval(() => void beat().catch(() => {}), BEAT_MS);
  timer.unref();
  return {
    lost: lost.signal,
    release: async () => {
      clearInterval(timer);
      // Emptied, not removed: numbers only ever rise.
      if (await isMine()) await truncate(path);
    },
  };
}

async function identityOf(pid: number): Promise<Omit<LockHolder, 'token'>> {
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

function parseHolder(text: string): LockHolder | undefined {
  try {
    const holder = JSON.parse(text) as Partial<LockHolder>;
    return typeof holder.pid === 'number' &&
      typeof holder.token === 'string' &&
      typeof holder.space === 'string'
      ? { token: holder.token, pid: holder.pid, start: holder.start ?? null, space: holder.space }
      : undefined;
  } catch {
    return undefined;
  }
}

function inUse(folder: string, holder: LockHolder | undefined, me: LockHolder): Error {
  const who = holder === undefined ? 'another process' : `process ${holder.pid}`;
  const where = holder === undefined || holder.space === me.space ? '' : ' of another machine or container';
  return new Error(
    `the file store in ${folder} is in use by ${who}${where}; a folder serves one gateway: stop the other or set FILE_STORAGE_DIR`,
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
