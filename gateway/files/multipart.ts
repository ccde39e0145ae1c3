import { Failure } from '../../shared/errors.ts';

/** RFC 2046 5.1.1. */
const MAX_BOUNDARY_CHARS = 70;
/** Headers of one part. A name of 255 bytes, percent-encoded twice, takes 1,300. */
export const MAX_PART_HEADER_BYTES = 16_384;
export const MAX_PARTS = 100;
/** Spaces that transports may add after a boundary. */
const MAX_PADDING_BYTES = 256;

const CR = 13;
const LF = 10;
const DASH = 45;
const CRLF = Uint8Array.of(CR, LF);
const HEADER_END = Uint8Array.of(CR, LF, CR, LF);

export type MultipartEvent =
  /** Headers by lower-case name. */
  | { type: 'part'; headers: ReadonlyMap<string, string> }
  /** A view of the chunk that was pushed, for the part announced last. */
  | { type: 'data'; bytes: Uint8Array<ArrayBuffer> }
  | { type: 'part_end' };

/** The boundary of a multipart/form-data request. Throws `invalid_request`. */
export function readBoundary(contentType: string | null): string {
  const [, type, parameters = ''] = /^\s*([^;\s]*)\s*(;.*)?$/s.exec(contentType ?? '') ?? [];
  if (type?.toLowerCase() !== 'multipart/form-data') {
    throw new Failure('invalid_request', "Send the file as multipart/form-data, in the field 'file'");
  }
  const [, quoted, plain] = /;\s*boundary=(?:"([^"]*)"|([^\s;"]*))\s*(?=;|$)/i.exec(parameters) ?? [];
  const boundary = quoted ?? plain ?? '';
  // The characters of RFC 2046; a space only inside.
  if (!/^[\w'()+,\-./:=? ]{0,69}[\w'()+,\-./:=?]$/.test(boundary)) {
    throw new Failure(
      'invalid_request',
      `The Content-Type needs a boundary of 1 to ${MAX_BOUNDARY_CHARS} characters`,
    );
  }
  return boundary;
}

/**
 * Parses a multipart body as it arrives. It holds back at most a boundary's length of a part's bytes, and one part's
 * headers; chunks may break anywhere. Only a whole delimiter line ends a part: bytes that merely begin like one are data.
 */
export class MultipartParser {
  readonly #delimiter: Uint8Array<ArrayBuffer>;
  #state: 'preamble' | 'header' | 'body' | 'epilogue' = 'preamble';
  /** What is not consumed yet. It starts with the line break that a first delimiter line may lack. */
  #rest: Uint8Array<ArrayBuffer> = CRLF;
  #parts = 0;
  /** How much of `#rest` holds no end of headers. */
  #searched = 0;

  constructor(boundary: string) {
    this.#delimiter = new TextEncoder().encode(`\r\n--${boundary}`);
  }

  /** Throws `invalid_request`; the parser is of no use after that. */
  *push(chunk: Uint8Array<ArrayBuffer>): Generator<MultipartEvent, void, undefined> {
    if (this.#state === 'epilogue') return;
    this.#rest = concat(this.#rest, chunk);
    for (;;) {
      if (this.#state === 'header') {
        const headers = this.#takeHeaders();
        if (headers === undefined) return;
        this.#state = 'body';
        yield { type: 'part', headers };
      }
      const inBody = this.#state === 'body';
      const { before, found } = this.#takeUntilDelimiter();
      if (inBody && before.byteLength > 0) yield { type: 'data', bytes: before };
      if (found === undefined) return;
      if (inBody) yield { type: 'part_end' };
      if (found === 'last') {
        this.#state = 'epilogue';
        this.#rest = new Uint8Array();
        return;
      }
      this.#parts += 1;
      if (this.#parts > MAX_PARTS)
        throw new Failure('invalid_request', `A form has at most ${MAX_PARTS} fields`);
      this.#state = 'header';
    }
  }

  /** Throws `invalid_request` unless the body had its closing boundary. */
  end(): void {
    // A closing boundary may be the very end: nothing has to follow it.
    if (this.#state === 'epilogue') return;
    throw new Failure('invalid_request', 'The multipart body ends before its closing boundary');
  }

  #takeHeaders(): Map<string, string> | undefined {
    // The delimiter line left its line break, so that a part without headers ends like any other.
    const end = indexOf(this.#rest, HEADER_END, this.#searched);
    if (end > MAX_PART_HEADER_BYTES || (end === -1 && this.#rest.byteLength > MAX_PART_HEADER_BYTES + 3)) {
      throw new Failure('invalid_request', `The headers of a field exceed ${MAX_PART_HEADER_BYTES} bytes`);
    }
    // Each byte is looked at once, however small the chunks are.
    this.#searched = end === -1 ? Math.max(0, this.#rest.byteLength - HEADER_END.byteLength + 1) : 0;
    if (end === -1) return undefined;
    const headers = parseHeaders(this.#rest.subarray(0, end));
    this.#rest = this.#rest.subarray(end + HEADER_END.byteLength);
    return headers;
  }

  /** Takes what surely stands before the next delimiter line, and that line too where it is whole. */
  #takeUntilDelimiter(): { before: Uint8Array<ArrayBuffer>; found?: 'next' | 'last' } {
    const rest = this.#rest;
    for (let from = 0; ; from += 1) {
      from = indexOf(rest, this.#delimiter, from);
      if (from === -1) break;
      const tail = from + this.#delimiter.byteLength;
      const line = readDelimiterEnd(rest, tail);
      if (line === 'data') continue;
      const before = rest.subarray(0, from);
      this.#rest = rest.subarray(line === 'more' ? from : line.next);
      return line === 'more' ? { before } : { before, found: line.found };
    }
    const keep = partialAtEnd(rest, this.#delimiter);
    this.#rest = rest.subarray(rest.byteLength - keep);
    return { before: rest.subarray(0, rest.byteLength - keep) };
  }
}

/** What follows a boundary: `--`, or padding and a line break, which is left for the headers. */
function readDelimiterEnd(
  bytes: Uint8Array,
  at: number,
): 'more' | 'data' | { found: 'next' | 'last'; next: number } {
  if (bytes[at] === DASH && at + 1 === bytes.byteLength) return 'more';
  if (bytes[at] === DASH && bytes[at + 1] === DASH) return { found: 'last', next: at + 2 };
  let end = at;
  while (bytes[end] === 32 || bytes[end] === 9) end++;
  if (end - at > MAX_PADDING_BYTES) return 'data';
  if (end === bytes.byteLength || (bytes[end] === CR && end + 1 === bytes.byteLength)) return 'more';
  return bytes[end] === CR && bytes[end + 1] === LF ? { found: 'next', next: end } : 'data';
}

function parseHeaders(bytes: Uint8Array): Map<string, string> {
  const headers = new Map<string, string>();
  for (const line of decode(bytes).split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  return headers;
}

/** RFC 7578 5.1: UTF-8. What is not, some old client sent in its own charset. */
function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder('windows-1252').decode(bytes);
  }
}

function concat(a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (a.byteLength === 0) return b;
  const joined = new Uint8Array(a.byteLength + b.byteLength);
  joined.set(a);
  joined.set(b, a.byteLength);
  return joined;
}

/** Index of `needle`, whose first byte occurs in it once: a miss never has to look back. */
function indexOf(bytes: Uint8Array, needle: Uint8Array, from: number): number {
  const first = needle[0] as number;
  const last = bytes.byteLength - needle.byteLength;
  for (let at = bytes.indexOf(first, from); at !== -1 && at <= last; ) {
    if (startsWith(bytes, at, needle)) return at;
    at += 1;
    // A call for each byte would make a run of them slow.
    if (bytes[at] !== first) at = bytes.indexOf(first, at);
  }
  return -1;
}

/** How many bytes at the end may be the beginning of `needle`. */
function partialAtEnd(bytes: Uint8Array, needle: Uint8Array): number {
  const first = needle[0] as number;
  const from = Math.max(0, bytes.byteLength - needle.byteLength + 1);
  for (let at = bytes.indexOf(first, from); at !== -1; at = bytes.indexOf(first, at + 1)) {
    if (startsWith(bytes, at, needle.subarray(0, bytes.byteLength - at))) return bytes.byteLength - at;
  }
  return 0;
}

function startsWith(bytes: Uint8Array, at: number, needle: Uint8Array): boolean {
  for (let index = 0; index < needle.byteLength; index += 1) {
    if (bytes[at + index] !== needle[index]) return false;
  }
  return true;
}
