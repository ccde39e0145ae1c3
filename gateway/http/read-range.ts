/** Bytes of a file, both ends counted; `first` null: the last `last` of them. `last` null: to its end. */
export type ByteRange = { first: number | null; last: number | null };

/**
 * One range of bytes (RFC 9110 14.2); undefined for none, for several and for what is none, which ask for the whole. So does
 * one with `If-Range`: no file has a validator, so none is surely the one of which the reader has a part.
 */
export function readRange(headers: Headers): ByteRange | undefined {
  const header = headers.has('if-range') ? '' : (headers.get('range') ?? '');
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header.trim()) ?? [];
  if (first === '') return last === '' ? undefined : { first: null, last: Number(last) };
  if (last === '') return { first: Number(first), last: null };
  return Number(last) < Number(first) ? undefined : { first: Number(first), last: Number(last) };
}
