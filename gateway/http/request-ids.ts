import { toBase64Url } from '../../shared/jose.ts';

const SANE_ID = /^[A-Za-z0-9._~:/+=@-]{1,128}$/;
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,70})?$/;
const ID_BYTES = 15;

/** `X-Request-Id` where it is sane, else a new one. */
export function requestIdOf(headers: Headers, random: (bytes: number) => Uint8Array): string {
  const given = headers.get('x-request-id');
  return given !== null && SANE_ID.test(given) ? given : toBase64Url(random(ID_BYTES));
}

/** W3C trace context, as it came; null where it is none. */
export function traceparentOf(headers: Headers): string | null {
  const given = headers.get('traceparent');
  return given !== null && given.length <= 128 && TRACEPARENT.test(given) ? given : null;
}
