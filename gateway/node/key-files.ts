import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { importKeyring, type Keyring } from '../../shared/ids.ts';
import { type IssuerEntry, issuersSchema } from '../auth/issuers.ts';

/**
 * Reads `issuers.json`; paths in it are relative to it. Throws `invalid_request` that says which entry is wrong and
 * what is allowed.
 */
export async function readIssuers(path: string): Promise<readonly IssuerEntry[]> {
  const issuers = await readChecked(path, 'trusted issuers', (value) => issuersSchema.parse(value));
  return issuers.map((entry) =>
    'file' in entry.keys ? { ...entry, keys: { file: resolve(dirname(path), entry.keys.file) } } : entry,
  );
}

/** Reads `ids.json`, the keyring of execution and session ids. Throws `invalid_request` and shows nothing of its content. */
export function readKeyring(path: string): Promise<Keyring> {
  return readChecked(path, 'keys of ids', importKeyring);
}

async function readChecked<T>(
  path: string,
  what: string,
  parse: (value: unknown) => T | Promise<T>,
): Promise<T> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    throw new Failure(
      'invalid_request',
      `The ${what} cannot be read from ${path} (${reason}). "podgate keys init" makes them.`,
    );
  }
  try {
    return await parse(JSON.parse(text));
  } catch (cause) {
    // Messages of JSON.parse quote the text, which may be a secret.
    const reason = cause instanceof z.ZodError ? z.prettifyError(cause) : 'It is not valid JSON.';
    throw new Failure('invalid_request', `The ${what} in ${path} are not valid. ${reason}`);
  }
}
