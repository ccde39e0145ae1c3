import { createHash, randomUUID } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { makeFolder } from '../gateway/node/make-folder.ts';
import { printable, UsageError } from './io.ts';

const MAX_PATH_PARTS = 256;

/**
 * Splits a path that came from a sandbox into safe parts. Throws UsageError for absolute paths, `..`, empty parts and NUL,
 * and for `\` and `:` where this machine's `separator` is a backslash, since they lead elsewhere there: such a name is an
 * attack or a bug, and either way not ours to write.
 */
export function safeParts(path: string, separator: string = sep): string[] {
  const refuse = (why: string): never => {
    throw new UsageError(`refusing to save '${printable(path)}': ${why}`, 1);
  };
  if (path.startsWith('/')) refuse('the path is absolute');
  if (path.includes('\0')) refuse('the path contains NUL');
  if (separator === '\\' && /[\\:]/.test(path))
    refuse("the path contains '\\' or ':', which lead elsewhere here");
  const parts = path.split('/');
  if (parts.length > MAX_PATH_PARTS) refuse('the path is too deep');
  if (parts.some((part) => part === '..')) refuse("the path contains '..'");
  if (parts.some((part) => part === '' || part === '.')) refuse('the path has an empty part');
  return parts;
}

/** Files that one command has saved, by device and inode: what file system holds two names for one, no name tells. */
export type SavedFiles = Set<string>;

/**
 * Saves one file below `directory`. No link on the way is followed, an existing link at the end is not written
 * through, nor is one of `saved`; the file appears whole or not at all. Returns its digest.
 */
export async function saveFile(
  directory: string,
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  saved: SavedFiles = new Set(),
): Promise<string> {
  const parts = safeParts(path);
  await makeFolder(directory);
  let folder = directory;
  for (const part of parts.slice(0, -1)) {
    folder = join(folder, part);
    await enterFolder(folder, path);
  }
  const target = join(folder, parts.at(-1) as string);
  const existing = await lstat(target, { bigint: true }).catch(() => undefined);
  const refuse = (why: string): never => {
    throw new UsageError(`refusing to save '${printable(path)}': ${why}`, 1);
  };
  if (existing && !existing.isFile()) refuse('something that is no regular file is there');
  if (existing && saved.has(identityOf(existing)))
    refuse('to this file system its name is that of another that was just saved');
  const temporary = join(dirname(target), `.podgate-${randomUUID()}`);
  const digest = createHash('sha256');
  try {
    await using file = await open(
      temporary,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o644,
    );
    for await (const chunk of chunks) {
      digest.update(chunk);
      await file.writeFile(chunk);
    }
    await rename(temporary, target);
    saved.add(identityOf(await file.stat({ bigint: true })));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  return digest.digest('hex');
}

function identityOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`;
}

async function enterFolder(folder: string, path: string): Promise<void> {
  await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const found = await lstat(folder);
  if (!found.isDirectory())
    throw new UsageError(`refusing to save '${printable(path)}': '${printable(folder)}' is no folder`, 1);
}
