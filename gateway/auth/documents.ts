import * as z from 'zod';

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** Where a JWKS or a deny-list lies. */
export type DocumentSource = { file: string } | { url: string };

/** Over plain HTTP a document would be anybody's on the way, so only this machine may serve one so. */
export const documentUrl = z.string().refine((text) => {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password } = new URL(text);
  if (username !== '' || password !== '') return false;
  return protocol === 'https:' || (protocol === 'http:' && LOOPBACK.test(hostname));
}, 'use an https:// URL without a user name');

/**
 * The port that files and URLs are read through: the whole text, at most `MAX_DOCUMENT_BYTES`, within seconds. It
 * rejects where there is none; the message goes to the operator's log.
 */
export type ReadDocument = (source: DocumentSource) => Promise<string>;

export const MAX_DOCUMENT_BYTES = 8_388_608;

/** One line of the log, flat. Never a key: ids of keys at most. */
export type AuthLogEntry = { level: 'info' | 'warn'; event: string } & Record<string, string | number | null>;
export type AuthLog = (entry: AuthLogEntry) => void;

/** What a source is called in logs and listings. The query of a URL may hold a token. */
export function describeSource(source: DocumentSource): string {
  if ('file' in source) return source.file;
  const { origin, pathname } = new URL(source.url);
  return origin + pathname;
}
