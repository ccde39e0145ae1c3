/**
 * Parses a JSON object in which no member is named twice, else null. `JSON.parse` keeps the last of two, other parsers
 * the first: a token that both read differently has two meanings (RFC 7515 section 4 and RFC 7519 section 4 allow refusal).
 */
export function parseUniqueObject(bytes: Uint8Array): Record<string, unknown> | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
    return hasDuplicateMember(text) ? null : (value as Record<string, unknown>);
  } catch {
    return null;
  }
}

/** `text` is JSON that parses: a string before a colon is a member's name, and brackets are those outside strings. */
function hasDuplicateMember(text: string): boolean {
  const open: Set<string>[] = [];
  for (const [piece, name] of text.matchAll(/("(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (piece === '{') open.push(new Set());
    else if (piece === '}') open.pop();
    else if (name !== undefined) {
      const names = open.at(-1);
      const plain = JSON.parse(name) as string;
      if (names?.has(plain)) return true;
      names?.add(plain);
    }
  }
  return false;
}
