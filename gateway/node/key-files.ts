import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { importKeyring, type Keyring } from '../../shared/ids.ts';
import { printable } from '../../shared/printable.ts';
import { type IssuerEntry, issuersSchema } from '../auth/issuers.ts';

/** Of what is wrong with a file, as many are told. */
const MAX_FAULTS = 5;

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
    const reason = cause instanceof z.ZodError ? faultsOf(cause) : 'it is not valid JSON';
    throw new Failure('invalid_request', `The ${what} in ${path} are not valid: ${reason}.`);
  }
}

/** On one line: it goes to a log and to a terminal. */
function faultsOf({ issues }: z.ZodError): string {
  const faults = issues.slice(0, MAX_FAULTS).map(({ path, message }) => {
    const place = z.core.toDotPath(path);
    return place === '' ? message : `${place}: ${message}`;
  });
  const more = issues.length - faults.length;
  return printable([...faults, ...(more > 0 ? [`and ${more} more`] : [])].join('; '));
}
