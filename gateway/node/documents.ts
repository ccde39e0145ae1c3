import { constants, open } from 'node:fs/promises';
import { type DocumentSource, MAX_DOCUMENT_BYTES, type ReadDocument } from '../auth/documents.ts';

const FETCH_TIMEOUT_MS = 5_000;

export type DocumentReaderDeps = {
  fetch?: typeof fetch;
  /** Ends what is on its way: alone it would keep the process from its end. */
  signal?: AbortSignal;
};

/** Reads JWKS and deny-lists from files and from URLs; what a URL sent is kept for its ETag. */
export function createDocumentReader({ fetch: load = fetch, signal }: DocumentReaderDeps = {}): ReadDocument {
  const known = new Map<string, { etag: string; text: string }>();

  async function readUrl(url: string): Promise<string> {
    const before = known.get(url);
    const response = await load(url, {
      headers: {
        accept: 'application/json, text/plain',
        ...(before ? { 'if-none-match': before.etag } : {}),
      },
      // A redirect could lead from the configured https host to any other.
      redirect: 'error',
      signal: AbortSignal.any([AbortSignal.timeout(FETCH_TIMEOUT_MS), ...(signal ? [signal] : [])]),
    });
    if (response.status === 304 && before) return before.text;
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(`the server answered ${response.status}`);
    }
    const text = await readBounded(response);
    const etag = response.headers.get('etag');
    if (etag === null) known.delete(url);
    else known.set(url, { etag, text });
    return text;
  }

  return (source: DocumentSource) => ('file' in source ? readFile(source.file) : readUrl(source.url));
}

async function readFile(path: string): Promise<string> {
  // Without blocking: opening a FIFO would wait for a writer.
  await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stat = await handle.stat();
  if (!stat.isFile()) throw new Error('not a regular file');
  if (stat.size > MAX_DOCUMENT_BYTES) throw tooLarge();
  return handle.readFile('utf8');
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  // Leaving the loop by a throw cancels the body.
  for await (const chunk of response.body ?? []) {
    size += chunk.byteLength;
    if (size > MAX_DOCUMENT_BYTES) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function tooLarge(): Error {
  return new Error(`larger than ${MAX_DOCUMENT_BYTES} bytes`);
}
