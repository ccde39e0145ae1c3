import { open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DenyDocument, parseDenyList } from '../gateway/auth/deny-list.ts';
import { dirOption } from './config.ts';
import { UsageError } from './io.ts';
import { KEY_FILES, readKeyFile, writeKeyFile } from './key-folder.ts';

const LOCK_TRIES = 50;
const LOCK_PAUSE_MS = 50;

/** The folder's deny-list. Throws UsageError where it cannot be understood, which a gateway refuses as well. */
export async function readDenyFile(dir: string): Promise<DenyDocument> {
  const text = await readKeyFile(dir, KEY_FILES.deny);
  try {
    return parseDenyList(text);
  } catch {
    throw new UsageError(
      `${join(dir, KEY_FILES.deny)} is no deny-list that can be read: mend it, nothing was changed`,
    );
  }
}

/** Adds to the folder's deny-list, in one step for its readers; what is there already is not added again. */
export async function addToDenyFile(dir: string, added: DenyDocument): Promise<void> {
  await using _lock = await takeLock(join(dir, `${KEY_FILES.deny}.lock`));
  const list = await readDenyFile(dir);
  const content: DenyDocument = {
    jti: [...new Set([...list.jti, ...added.jti])],
    sub: [...list.sub, ...added.sub].filter(
      (entry, index, all) =>
        all.findIndex((each) => each.issuer === entry.issuer && each.sub === entry.sub) === index,
    ),
  };
  await writeKeyFile(dir, KEY_FILES.deny, content, { replace: true });
}

/** Two that read, add and write at once would lose one revocation. */
async function takeLock(path: string): Promise<AsyncDisposable> {
  for (let tries = 0; tries < LOCK_TRIES; tries += 1) {
    try {
      await (await open(path, 'wx')).close();
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT')
        throw new UsageError(
          `there is no folder for ${path}: make it with 'podgate keys init${dirOption(dirname(path))}'`,
        );
      if (code !== 'EEXIST') throw new UsageError(`${path} cannot be written (${code})`);
      await sleep(LOCK_PAUSE_MS);
    }
  }
  throw new UsageError(`another command is changing the deny-list; if none is running, remove ${path}`);
}
