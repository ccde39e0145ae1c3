import { Failure } from '../../shared/errors.ts';
import type { FileEnd } from '../../shared/messages.ts';
import { MAX_RESULT_DOCUMENT_BYTES, type PythonResults, resultDocument } from '../../shared/session-api.ts';
import { CollectedBytes } from '../execution/collected-bytes.ts';
import type { OmittedFile, ResultFile } from '../execution/result-files.ts';
import { parseJson } from '../http/parse-json.ts';

export type ResultDocumentOptions = {
  /** Bytes have been taken: the stream's window may rise. */
  consumed(bytes: number): void;
  /** They are held to the end. */
  keep(bytes: number): void;
};

/** The one document that a Python of a session sends where executions send files: kept in memory, within bounds. */
export class ResultDocument {
  readonly files: ResultFile[] = [];
  readonly omitted: OmittedFile[] = [];
  readonly omittedCount = 0;
  readonly storedBytes = 0;
  readonly #options: ResultDocumentOptions;
  readonly #collected = new CollectedBytes();
  #received = 0;
  #ended = false;

  constructor(options: ResultDocumentOptions) {
    this.#options = options;
  }

  /** Empty where none came, or one that is larger than it may be. */
  get bytes(): Uint8Array {
    return this.#ended && this.#received <= MAX_RESULT_DOCUMENT_BYTES
      ? this.#collected.bytes
      : new Uint8Array(0);
  }

  get unfinished(): boolean {
    return this.#received > 0 && !this.#ended;
  }

  data(bytes: Uint8Array): void {
    this.#received += bytes.byteLength;
    if (this.#received <= MAX_RESULT_DOCUMENT_BYTES) {
      this.#options.keep(bytes.byteLength);
      this.#collected.push(bytes);
    }
    this.#options.consumed(bytes.byteLength);
  }

  /** False when the agent breaks the protocol: a size that is not what came, or a second document. */
  end({ size }: FileEnd): boolean {
    if (this.#ended || size !== this.#received) return false;
    this.#ended = true;
    return true;
  }

  settled(): Promise<void> {
    return Promise.resolve();
  }

  discard(): Promise<void> {
    return Promise.resolve();
  }
}

const NOTHING: PythonResults = { results: [], results_omitted: [], error: null };

/** What a document says. It was written by user code: what is no such document says nothing. */
export function readResults(bytes: Uint8Array | undefined): PythonResults {
  if (!bytes || bytes.byteLength === 0) return NOTHING;
  const document = resultDocument.safeParse(attempt(bytes));
  if (!document.success) return NOTHING;
  const { results, omitted, error } = document.data;
  const results_omitted = [...omitted];
  const read = results.map(({ kind, data }) => {
    const { 'application/json': json, ...texts } = data;
    if (json === undefined) return { kind, data: texts };
    const value = attempt(new TextEncoder().encode(json));
    if (value !== undefined) return { kind, data: { ...texts, 'application/json': value } };
    results_omitted.push({ type: 'application/json', reason: 'not_json' });
    return { kind, data: texts };
  });
  return { results: read, results_omitted, error };
}

function attempt(bytes: Uint8Array): unknown {
  try {
    return parseJson(bytes);
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}
