import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DEFAULT_MAX_LIFETIME_SECONDS, type IssuerEntry } from '../gateway/auth/issuers.ts';
import { readIssuers } from '../gateway/node/key-files.ts';
import { makeFolder } from '../gateway/node/make-folder.ts';
import { KEY_KINDS, type KeyKind } from '../shared/claims.ts';
import { generateKeyring } from '../shared/ids.ts';
import { generateKeyPair, importSigningKey, type SigningKey, toKeySetDocument } from '../shared/key-set.ts';
import { randomId } from '../shared/keys.ts';
import { tenantName } from '../shared/principal.ts';
import { dirOption } from './config.ts';
import { UsageError } from './io.ts';
import { replaceTogether } from './replace-together.ts';

/**
 * The folder of keys, by default `.podgate/` (0700):
 *
 *     issuers.json          who may issue keys: what a gateway is started with; names the two JWKS files beside it
 *     callers.jwks.json     public keys that callers' keys are verified with
 *     callers.private.json  private keys that sign them, the first of the list (0600); a gateway does not need it
 *     agents.jwks.json      the same for agents' tokens
 *     agents.private.json
 *     ids.json              keyring of execution and session ids (0600); the same for every replica of a gateway
 *     deny.json             what is revoked; gateways read it again every 15 s
 */
export const KEY_FILES = {
  issuers: 'issuers.json',
  callersPublic: 'callers.jwks.json',
  callersPrivate: 'callers.private.json',
  agentsPublic: 'agents.jwks.json',
  agentsPrivate: 'agents.private.json',
  ids: 'ids.json',
  deny: 'deny.json',
} as const;

const PRIVATE_FILES: readonly string[] = [
  KEY_FILES.callersPrivate,
  KEY_FILES.agentsPrivate,
  KEY_FILES.ids,
  KEY_FILES.deny,
];

/** Names of the two issuers that `keys init` sets up. */
export const ISSUER = { callers: 'podgate:callers', agents: 'podgate:agents' } as const;

type Contents = Partial<Record<keyof typeof KEY_FILES, unknown>>;

export type InitOptions = {
  tenant?: string;
  /** Replaces keys that are there, after which nothing that they signed is accepted. */
  force?: boolean;
};

/** Makes the folder and every key in it. Throws UsageError where one of its files exists, unless told to replace them. */
export async function initKeyFolder(
  dir: string,
  { tenant = 'default', force = false }: InitOptions = {},
): Promise<void> {
  if (!tenantName.safeParse(tenant).success) {
    throw new UsageError(
      `'${tenant}' cannot be a tenant: use 1 to 100 letters, digits, dots, underscores and hyphens`,
    );
  }
  try {
    await makeFolder(dir, 0o700);
  } catch (error) {
    throw new UsageError(`The folder ${dir} cannot be made ${elsewhere(error)}`);
  }
  const present = await presentFiles(dir);
  if (present.length > 0 && !force) {
    throw new UsageError(
      `${dir} has keys already (${present.join(', ')}) and they are kept. 'podgate keys init --force${dirOption(dir)}' replaces them: every key and token made with them stops working`,
    );
  }
  const [callers, agents] = await Promise.all([generateKeyPair(), generateKeyPair()]);
  const contents: Contents = {
    callersPrivate: { keys: [callers] },
    agentsPrivate: { keys: [agents] },
    callersPublic: toKeySetDocument([callers]),
    agentsPublic: toKeySetDocument([agents]),
    ids: generateKeyring(randomId(6)),
    deny: { jti: [], sub: [] },
    // Last: a folder with this file is whole.
    issuers: issuersDocument(tenant),
  };
  // What was revoked stays so: the list may name keys of other issuers too.
  if (present.includes(KEY_FILES.deny)) delete contents.deny;
  if (await appearsWhole(dir, contents)) return;
  if (force) await replaceContents(dir, contents);
  else await writeContents(dir, contents);
}

/**
 * Fills an empty folder in one step: who is ended on the way leaves none of its files, and not half of them. False where
 * there is something in it, or another cannot take its place.
 */
async function appearsWhole(dir: string, contents: Contents): Promise<boolean> {
  if ((await readdir(dir)).length > 0) return false;
  const made = `${resolve(dir)}.${randomUUID()}.tmp`;
  try {
    await mkdir(made, { mode: 0o700 });
    await writeContents(made, contents);
    await rename(made, dir);
    return true;
  } catch {
    await rm(made, { recursive: true, force: true });
    return false;
  }
}

/** Whoever is ended on the way leaves all keys that were there, or all that are new. */
async function replaceContents(dir: string, contents: Contents): Promise<void> {
  const names = Object.keys(contents).map((name) => KEY_FILES[name as keyof typeof KEY_FILES]);
  try {
    await replaceTogether(dir, names, (into) => writeContents(into, contents));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`The keys in ${dir} cannot be replaced ${elsewhere(error)}`);
  }
}

async function writeContents(dir: string, contents: Contents): Promise<void> {
  // Whoever makes the folder inside a repository must not commit it.
  await writeText(join(dir, '.gitignore'), '*\n', 0o644, true);
  for (const [name, content] of Object.entries(contents))
    await writeKeyFile(dir, KEY_FILES[name as keyof typeof KEY_FILES], content, { replace: false });
}

/** True where `keys init` has been. */
export async function hasKeyFolder(dir: string): Promise<boolean> {
  return (await presentFiles(dir)).includes(KEY_FILES.issuers);
}

/** Writes one file of the folder in one step, so that no reader sees half of it. */
export async function writeKeyFile(
  dir: string,
  name: string,
  content: unknown,
  { replace }: { replace: boolean },
): Promise<void> {
  const mode = PRIVATE_FILES.includes(name) ? 0o600 : 0o644;
  await writeText(join(dir, name), `${JSON.stringify(content, null, 2)}\n`, mode, replace);
}

/** One file of the folder as text. Throws UsageError that says how to make it. */
export async function readKeyFile(dir: string, name: string): Promise<string> {
  try {
    return await readFile(join(dir, name), 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') throw new UsageError(`${join(dir, name)} cannot be read ${elsewhere(error)}`);
    throw new UsageError(
      `there are no keys in ${dir}: make them with 'podgate keys init${dirOption(dir)}', or name the folder with --dir`,
    );
  }
}

/** What signs keys of one kind, and the entry that gateways verify them by. */
export async function openIssuer(
  dir: string,
  kind: KeyKind,
): Promise<{ entry: IssuerEntry; signingKey: SigningKey }> {
  const entry = await findIssuer(dir, kind);
  const name = KEY_FILES[`${kind}Private`];
  const text = await readKeyFile(dir, name);
  try {
    return { entry, signingKey: await importSigningKey(JSON.parse(text).keys[0]) };
  } catch {
    throw new UsageError(`${join(dir, name)} holds no private key that can be read; restore it from a copy`);
  }
}

/** The folder's own issuer of one kind: the entry that reads the folder's JWKS. */
export async function findIssuer(dir: string, kind: KeyKind): Promise<IssuerEntry> {
  const entries = await readFolderIssuers(dir);
  const own = join(dir, KEY_FILES[`${kind}Public`]);
  for (const entry of entries) {
    if (entry.kind === kind && 'file' in entry.keys && (await isSameFile(entry.keys.file, own))) return entry;
  }
  throw new UsageError(
    `${join(dir, KEY_FILES.issuers)} has no entry of kind '${kind}' for ${KEY_FILES[`${kind}Public`]}`,
  );
}

/** Every trusted issuer of the folder. */
export async function readFolderIssuers(dir: string): Promise<readonly IssuerEntry[]> {
  await readKeyFile(dir, KEY_FILES.issuers);
  return readIssuers(join(dir, KEY_FILES.issuers));
}

function issuersDocument(tenant: string): unknown {
  return {
    issuers: KEY_KINDS.map((kind) => ({
      kind,
      issuer: ISSUER[kind],
      tenant,
      jwks_file: KEY_FILES[`${kind}Public`],
      max_lifetime_seconds: DEFAULT_MAX_LIFETIME_SECONDS[kind],
    })),
  };
}

async function presentFiles(dir: string): Promise<string[]> {
  const found = await Promise.all(
    Object.values(KEY_FILES).map((name) =>
      stat(join(dir, name)).then(
        () => [name],
        () => [],
      ),
    ),
  );
  return found.flat();
}

async function isSameFile(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([a, b].map((path) => stat(path).catch(() => null)));
  return !!first && !!second && first.ino === second.ino && first.dev === second.dev;
}

function elsewhere(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  return `(${code}): let this user read and write there, or name another folder of keys with PODGATE_DIR`;
}

/** Writes a file in one step. Throws UsageError that says what to do. */
export async function writeText(path: string, text: string, mode: number, replace: boolean): Promise<void> {
  // Without `replace` the name itself is opened exclusively: of two that start at once, one must lose.
  const target = replace ? `${path}.${randomUUID()}.tmp` : path;
  try {
    await using handle = await open(target, 'wx', mode);
    await handle.writeFile(text);
    await handle.chmod(mode);
    await handle.sync();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw new UsageError(`${path} exists already and is kept`);
    // Half of it, where the disk is full.
    await rm(target, { force: true });
    throw new UsageError(`${path} cannot be written ${elsewhere(error)}`);
  }
  if (!replace) return;
  try {
    await rename(target, path);
  } catch (error) {
    await rm(target, { force: true });
    throw new UsageError(`${path} cannot be replaced ${elsewhere(error)}`);
  }
}
