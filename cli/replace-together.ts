import { randomUUID } from 'node:crypto';
import { link, mkdir, readdir, readlink, realpath, rename, rm, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';

/** The link that a folder's files are reached through while they are replaced; its own files' names begin with it. */
const THROUGH = '.through';

/**
 * Replaces files of a folder all at once, for whoever reads them and where this is ended on the way: their names lead through
 * one link to what they had, then that link leads to what `write` wrote, and then they have it themselves.
 */
export async function replaceTogether(
  dir: string,
  names: readonly string[],
  write: (into: string) => Promise<void>,
): Promise<void> {
  await settle(dir, names);
  try {
    const [before, after] = [await makeSet(dir), await makeSet(dir)];
    await write(after);
    for (const name of names) await linkTo(join(dir, name), join(before, name));
    await point(dir, THROUGH, basename(before));
    for (const name of names) await point(dir, name, join(THROUGH, name));
    await point(dir, THROUGH, basename(after));
  } finally {
    await settle(dir, names);
  }
}

/** Files have again themselves what they lead to, also where another was ended on the way. */
async function settle(dir: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const path = join(dir, name);
    if ((await readlink(path).catch(() => null)) !== join(THROUGH, name)) continue;
    const made = freshName(dir);
    if (await linkTo(path, made)) await rename(made, path);
    else await rm(path);
  }
  // The link comes first: nothing leads through it any more.
  for (const name of (await readdir(dir)).sort())
    if (name === THROUGH || name.startsWith(`${THROUGH}.`))
      await rm(join(dir, name), { recursive: true, force: true });
}

async function makeSet(dir: string): Promise<string> {
  const made = freshName(dir);
  await mkdir(made, { mode: 0o700 });
  return made;
}

/** Another name for what `path` leads to. False where there is nothing. */
async function linkTo(path: string, made: string): Promise<boolean> {
  try {
    await link(await realpath(path), made);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

async function point(dir: string, name: string, target: string): Promise<void> {
  const made = freshName(dir);
  await symlink(target, made);
  await rename(made, join(dir, name));
}

function freshName(dir: string): string {
  return join(dir, `${THROUGH}.${randomUUID()}`);
}
