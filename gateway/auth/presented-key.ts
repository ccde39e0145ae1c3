/** The key that a request shows. Empty `token`: something was sent that is no key. */
export type PresentedKey = { found: 'one'; token: string } | { found: 'none' } | { found: 'several' };

/**
 * Reads a key from `Authorization: Bearer`, `X-API-Key` and the password of HTTP Basic, whose user name means nothing.
 * The same key in several places is one key.
 */
export function readPresentedKey(headers: Headers): PresentedKey {
  // Headers joins repeated fields with a comma, which no key and no base64 contains.
  const authorizations = headers.get('authorization')?.split(',') ?? [];
  const apiKeys = headers.get('x-api-key')?.split(',') ?? [];
  const tokens = new Set([...authorizations.flatMap(readAuthorization), ...apiKeys.map((key) => key.trim())]);
  if (tokens.size > 1) return { found: 'several' };
  const [token] = tokens;
  return token === undefined ? { found: 'none' } : { found: 'one', token };
}

/** Schemes that are not ours say nothing about a key. */
function readAuthorization(field: string): string[] {
  const [scheme = '', value = ''] = field.trim().split(/ +(.*)/s);
  if (scheme.toLowerCase() === 'bearer') return [value.trim()];
  if (scheme.toLowerCase() === 'basic') return [readPassword(value.trim())];
  return [];
}

function readPassword(encoded: string): string {
  try {
    const pair = atob(encoded);
    const colon = pair.indexOf(':');
    return colon === -1 ? '' : pair.slice(colon + 1);
  } catch {
    return '';
  }
}
