import { invalidOption } from './podgate-error.ts';

/** fetch refuses URLs with credentials, so they become the key: `http://key:<jwt>@host`. */
export function readBaseUrl(baseUrl: string | URL): { base: URL; key: string | undefined } {
  const base = parse(baseUrl);
  const key = decode(base.password || base.username) || undefined;
  base.username = '';
  base.password = '';
  base.hash = '';
  base.search = '';
  return { base, key };
}

/** No message has the URL: it may hold a key. */
function parse(baseUrl: string | URL): URL {
  const url = URL.canParse(String(baseUrl)) ? new URL(baseUrl) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:')
    throw invalidOption('baseUrl', 'is no URL of http or https');
  return url;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalidOption('baseUrl', 'holds a key with a % that encodes nothing');
  }
}
