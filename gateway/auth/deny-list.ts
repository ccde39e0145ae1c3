import * as z from 'zod';
import { issuerName, subject, tokenId } from '../../shared/claims.ts';
import { type AuthLog, type DocumentSource, describeSource, type ReadDocument } from './documents.ts';
import { createKeptDocument } from './kept-document.ts';

/** What of a key a deny-list may name. */
export type Deniable = { readonly issuer: string; readonly sub: string; readonly jti: string };

const subjectEntry = z.union([
  z.strictObject({ issuer: issuerName, sub: subject }),
  z.string().transform((line, context) => {
    const entry = parseSubject(line);
    if (entry === null) context.addIssue({ code: 'custom', message: 'write "issuer subject"' });
    return entry ?? z.NEVER;
  }),
]);

/** Strict: a misspelt member would deny nobody and look as if it did. */
const denyDocument = z.strictObject({
  jti: z.array(tokenId).max(1_000_000).default([]),
  sub: z.array(subjectEntry).max(1_000_000).default([]),
});

/** The content of a deny-list in its JSON form. */
export type DenyDocument = { jti: string[]; sub: { issuer: string; sub: string }[] };

/** How other JSON begins, and the page of a server in trouble: as lines it would name nobody, and look as if it did. */
const NO_LINES = /^(?:[["<]|null\s*$)/;

/**
 * Reads a deny-list: JSON `{"jti": [id], "sub": [{"issuer", "sub"} or "issuer subject"]}`, or lines, of which one word
 * is a `jti`, more are an issuer and a subject, and `#` begins a comment. Throws for anything else.
 */
export function parseDenyList(text: string): DenyDocument {
  const begin = text.trimStart();
  if (begin.startsWith('{')) return denyDocument.parse(JSON.parse(text));
  if (NO_LINES.test(begin)) throw new Error('it is neither a JSON object nor lines of ids');
  const list: DenyDocument = { jti: [], sub: [] };
  text.split(/\r?\n/).forEach((raw, index) => {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) return;
    const entry = parseSubject(line);
    if (entry !== null) list.sub.push(entry);
    else if (tokenId.safeParse(line).success) list.jti.push(line);
    else throw new Error(`line ${index + 1} is neither a jti nor an issuer and a subject`);
  });
  return list;
}

function parseSubject(line: string): { issuer: string; sub: string } | null {
  const space = line.indexOf(' ');
  const issuer = line.slice(0, Math.max(space, 0));
  const sub = line.slice(space + 1).trim();
  return issuerName.safeParse(issuer).success && subject.safeParse(sub).success ? { issuer, sub } : null;
}

export type DenyList = {
  /** Why a key is refused: it is named, or the list could never be read and nobody can know. */
  refuses(key: Deniable): 'revoked' | 'deny_list_unavailable' | null;
  /** Reads again; never rejects. */
  refresh(): Promise<void>;
};

/** Of an issuer's name in the log: a line may hold anything, a key by mistake. */
const MAX_SHOWN_CHARS = 64;

export type DenyListDeps = {
  /** Names of the issuers whose keys are accepted. */
  issuers: ReadonlySet<string>;
  /** Null: none is configured, and nobody is refused by it. */
  source: DocumentSource | null;
  readDocument: ReadDocument;
  log: AuthLog;
  onChange: () => void;
};

export function createDenyList({ issuers, source, readDocument, log, onChange }: DenyListDeps): DenyList {
  if (source === null) return { refuses: () => null, refresh: async () => {} };
  const from = describeSource(source);
  let isNaming = false;
  let toldOf: string | undefined;

  /** Said, not refused: a list may go on naming an issuer that was taken out. */
  function tellUnknown(sub: DenyDocument['sub']): void {
    const unknown = [...new Set(sub.map(({ issuer }) => issuer))].filter((issuer) => !issuers.has(issuer));
    if (toldOf === unknown.join(' ')) return;
    toldOf = unknown.join(' ');
    const [issuer] = unknown;
    if (issuer === undefined) return;
    log({
      level: 'warn',
      event: 'deny_list_unknown_issuer',
      from,
      issuer: issuer.slice(0, MAX_SHOWN_CHARS),
      issuers: unknown.length,
      trouble:
        'issuers.json does not name it, so its entries refuse no key; a line with only a jti is one word',
    });
  }

  const document = createKeptDocument({
    what: 'deny_list',
    from,
    read: () => readDocument(source),
    parse: (text) => {
      // So is a file that is being written again, and what a server in trouble answers.
      if (isNaming && text.trim() === '')
        throw new Error('it is empty, and named somebody before: write {} or a comment to deny nobody');
      const { jti, sub } = parseDenyList(text);
      isNaming = jti.length + sub.length > 0;
      tellUnknown(sub);
      return { tokens: new Set(jti), subjects: new Set(sub.map(nameOf)) };
    },
    onChange,
    log,
  });
  return {
    refuses(key) {
      if (document.value === undefined) return 'deny_list_unavailable';
      const { tokens, subjects } = document.value;
      return tokens.has(key.jti) || subjects.has(nameOf(key)) ? 'revoked' : null;
    },
    refresh: () => document.refresh(),
  };
}

/** Issuers' names hold no space. */
function nameOf({ issuer, sub }: { issuer: string; sub: string }): string {
  return `${issuer} ${sub}`;
}
