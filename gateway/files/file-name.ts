import { MAX_NAME_BYTES } from '../../shared/limits.ts';

/** Kept of a name that is too long, so that it still opens with the same program. */
const MAX_EXTENSION_BYTES = 32;
const encoder = new TextEncoder();

/**
 * The name that a file is stored under: the base name of what the caller gave, by either slash, without control
 * characters, at most 255 bytes of UTF-8, `file` where nothing is left. Dots in front are kept: `.env` is a name.
 */
export function fileName(given: string): string {
  const base = given.slice(Math.max(given.lastIndexOf('/'), given.lastIndexOf('\\')) + 1);
  const name = base.toWellFormed().replace(/\p{Cc}/gu, '');
  return ['', '.', '..'].includes(name.trim()) ? 'file' : shorten(name);
}

function shorten(name: string): string {
  if (byteLength(name) <= MAX_NAME_BYTES) return name;
  const dot = name.lastIndexOf('.');
  const ending = dot > 0 ? name.slice(dot) : '';
  const extension = byteLength(ending) <= MAX_EXTENSION_BYTES ? ending : '';
  const stem = name.slice(0, name.length - extension.length);
  return cut(stem, MAX_NAME_BYTES - byteLength(extension)) + extension;
}

/** At a character's border: a character that does not fit whole is left out. */
function cut(text: string, maxBytes: number): string {
  const { read } = encoder.encodeInto(text, new Uint8Array(maxBytes));
  return text.slice(0, read);
}

function byteLength(text: string): number {
  return encoder.encode(text).byteLength;
}
