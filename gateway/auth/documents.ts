/** Where a JWKS or a deny-list lies. */
export type DocumentSource = { file: string } | { url: string };

/**
 * The port that files and URLs are read through: the whole text, at most `MAX_DOCUMENT_BYTES`, within seconds. It
 * rejects where there is none; the message goes to the operator's log.
 */
export type ReadDocument = (source: DocumentSource) => Promise<string>;

export const MAX_DOCUMENT_BYTES = 8_388_608;

/** One line of the log, flat. Never a key: ids of keys at most. */
export type AuthLogEntry = { level: 'info' | 'warn'; event: string } & Record<string, string | number | null>;
export type AuthLog = (entry: AuthLogEntry) => void;

/** What a source is called in the log. */
export function describeSource(source: DocumentSource): string {
  return 'file' in source ? source.file : source.url;
}
