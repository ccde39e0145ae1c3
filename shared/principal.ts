import * as z from 'zod';
import { toBase64Url } from './jose.ts';

/** Bytes of an escaped `sub`, and characters of an end user: with the tenant's 100 a principal stays below 1,024. */
export const MAX_SUB_BYTES = 512;
export const MAX_USER_CHARS = 128;

/** An organisation's name. It begins with a letter or digit, so it is never `.` or `..`, and needs no escaping. */
export const tenantName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'use 1 to 100 of A-Z, a-z, 0-9, dot, underscore and -');

const UNESCAPED = /^[A-Za-z0-9._~@:-]$/;
const encoder = new TextEncoder();

/**
 * Percent-encodes one part of a principal so that different parts never meet: `/` and `%` are always escaped, and so is
 * a part of dots alone, which a file system would read as a step upwards. Throws RangeError for lone surrogates.
 */
export function escapePart(part: string): string {
  if (!part.isWellFormed()) throw new RangeError('a principal is well-formed Unicode');
  if (/^\.+$/.test(part)) return part.replaceAll('.', '%2E');
  let escaped = '';
  for (const character of part) {
    if (UNESCAPED.test(character)) escaped += character;
    else
      for (const byte of encoder.encode(character))
        escaped += `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return escaped;
}

/** Who a key speaks for: `tenant/sub`, or `tenant/sub/user`; injective, and exactly as many `/` as that shows. */
export function formatPrincipal(tenant: string, sub: string, user: string | null = null): string {
  const parts = user === null ? [sub] : [sub, user];
  return [tenant, ...parts.map(escapePart)].join('/');
}

/** SHA-256 of a principal in base64url: stands for it where it must not be readable. */
export async function digestPrincipal(principal: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', encoder.encode(principal)));
  return toBase64Url(digest);
}
