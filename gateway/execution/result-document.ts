import type { FileEnd, Outcome } from '../../shared/messages.ts';
import {
  isJsonType,
  MAX_RESULT_DOCUMENT_BYTES,
  type PythonResults,
  resultDocument,
} from '../../shared/result-api.ts';
import { jsonExcess } from '../http/parse-json.ts';
import { CollectedBytes } from './collected-bytes.ts';

export type ResultDocumentOptions = {
  /** Bytes have been taken: the stream's window may rise. */
  consumed(bytes: number): void;
  /** They are held to the end. */
  keep(bytes: number): void;
};

/** The document of results that comes on the files' channel, in their place or before them: kept in memory, within bounds. */
export class ResultDocument {
  readonly #options: ResultDocumentOptions;
  readonly #collected = new CollectedBytes();
  #received = 0;
  #ended = false;
  #lost = 0;
  #size = 0;

  constructor(options: ResultDocumentOptions) {
    this.#options = options;
  }

  /** What it says, once no more of it can come. One that is larger than it may be says nothing. */
  read(outcome: Outcome): PythonResults {
    if (!this.#ended && outcome === 'cancelled') return NOTHING;
    if (!this.#ended || this.#received < this.#size) return NOT_KEPT;
    return this.#received <= MAX_RESULT_DOCUMENT_BYTES ? readResults(this.#collected.bytes) : NOTHING;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get unfinished(): boolean {
    return this.#received > 0 && !this.#ended;
  }

  /** Bytes are gone: its own, and those behind it where there are more. */
  lose(bytes: number): void {
    this.#lost += bytes;
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
    if (this.#ended || size < this.#received || size > this.#received + this.#lost) return false;
    this.#lost -= size - this.#received;
    this.#size = size;
    this.#ended = true;
    return true;
  }

  /** Bytes that are gone of what comes behind it. */
  get lostBehind(): number {
    return this.#ended ? this.#lost : 0;
  }
}

export const NOTHING: PythonResults = { results: [], results_omitted: [], error: null };

const NOT_KEPT: PythonResults = { ...NOTHING, results_omitted: [{ type: '*/*', reason: 'not_kept' }] };

/** What a document says. It was written by user code: what is no such document says nothing. */
function readResults(bytes: Uint8Array): PythonResults {
  const document = resultDocument.safeParse(parsed(decoder.decode(bytes)).value);
  if (!document.success) return NOTHING;
  const { results, omitted, error } = document.data;
  const results_omitted = [...omitted];
  const read = results.map(({ kind, data }) => {
    const shown: Record<string, unknown> = {};
    for (const [type, text] of Object.entries(data)) {
      const { value, fault } = isJsonType(type) ? parsed(text) : { value: text };
      if (fault === undefined) shown[type] = value;
      else results_omitted.push({ type, reason: fault });
    }
    return { kind, data: shown };
  });
  return { results: read, results_omitted, error };
}

const decoder = new TextDecoder();

function parsed(text: string): { value?: unknown; fault?: 'too_large' | 'not_json' | undefined } {
  if (jsonExcess(text) !== undefined) return { fault: 'too_large' };
  try {
    return { value: JSON.parse(text) };
  } catch {
    return { fault: 'not_json' };
  }
}
