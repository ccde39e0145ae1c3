/** Parameters of a form field's Content-Disposition. */
export type FieldDisposition = { name: string | null; filename: string | null };

/** `attachment` with the name as RFC 6266 has it: ASCII for old readers, and `filename*` where ASCII does not do. */
export function attachmentDisposition(filename: string): string {
  const ascii = filename.replace(/[^\x20-\x7e]/gu, '_').replace(/["\\]/g, '\\$&');
  const plain = `attachment; filename="${ascii}"`;
  // Browsers differ on escaped quotes, and some read a percent sign in the plain form as an escape.
  return ascii === filename && !filename.includes('%')
    ? plain
    : `${plain}; filename*=UTF-8''${encodeExtended(filename)}`;
}

/** RFC 8187: what may stay is attr-char, which is narrower than what encodeURIComponent leaves. */
function encodeExtended(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replace(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

// A backslash escapes only a quote or itself: browsers send `C:\dir\a.txt` with bare ones. No byte can be read in two
// ways, or a long header would take for ever.
const PARAMETER = /;\s*([^\s=;"]+)\s*=(?:\s*"((?:[^"\\]|\\["\\]|\\(?!["\\]))*)"\s*|([^;"]*))(?=;|$)/y;

/**
 * Reads `form-data; name="file"; filename="…"`. Forms percent-encode a quote and a line break (WHATWG), older clients
 * escape them with a backslash; `filename*`, which RFC 7578 forbids, is sent all the same and wins.
 */
export function parseFieldDisposition(header: string): FieldDisposition {
  const found = new Map<string, string>();
  const type = /^\s*form-data\s*(?=;|$)/i.exec(header);
  PARAMETER.lastIndex = type?.[0].length ?? header.length;
  for (let match = PARAMETER.exec(header); match !== null; match = PARAMETER.exec(header)) {
    const [, name = '', quoted, plain = ''] = match;
    const value = quoted === undefined ? plain.trim() : unquote(quoted);
    if (!found.has(name.toLowerCase())) found.set(name.toLowerCase(), value);
  }
  const extended = decodeExtended(found.get('filename*') ?? '');
  return { name: found.get('name') ?? null, filename: extended ?? found.get('filename') ?? null };
}

function unquote(quoted: string): string {
  return quoted
    .replace(/\\(["\\])/g, '$1')
    .replace(/%22/g, '"')
    .replace(/%0d/gi, '\r')
    .replace(/%0a/gi, '\n');
}

function decodeExtended(value: string): string | undefined {
  const encoded = /^utf-8'[^']*'(.*)$/is.exec(value)?.[1];
  if (encoded === undefined) return undefined;
  try {
    return decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}
