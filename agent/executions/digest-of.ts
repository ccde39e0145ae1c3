import { createHash } from 'node:crypto';

/** Stands for a text in what is kept by the hundred thousand: a gateway may send long ones, and each costs the same. */
export function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
