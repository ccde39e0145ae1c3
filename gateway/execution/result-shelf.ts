import { RECORD_TTL_MS } from '../../shared/limits.ts';
import type { OutputEnding } from './run-output.ts';

/** Memory for names and ids of files, over all executions. */
export const MAX_SHELF_BYTES = 16_777_216;
const ENTRY_BYTES = 512;

/** What became of an execution's files. */
export type StoredFiles = Pick<OutputEnding, 'files' | 'filesOmitted' | 'filesOmittedCount'>;
type Storing = { readonly storedFiles: Promise<StoredFiles | null> };
type Entry = { readonly stored: StoredFiles; readonly bytes: number; readonly endedAtMs: number };

/**
 * What became of the files of executions that this gateway ran, for those who read them once more: their files need not
 * be stored again. Nothing is lost with it: who does not find them here stores them.
 */
export class ResultShelf {
  readonly #elapsed: () => number;
  readonly #maxBytes: number;
  readonly #running = new Map<string, Storing>();
  readonly #ended = new Map<string, Entry>();
  #bytes = 0;

  constructor(elapsed: () => number, maxBytes: number = MAX_SHELF_BYTES) {
    this.#elapsed = elapsed;
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  begin(executionId: string, storing: Storing): void {
    this.#running.set(executionId, storing);
  }

  /** Null: they are not stored, or not any more. */
  end(executionId: string, ended: StoredFiles | null): void {
    this.#running.delete(executionId);
    if (!ended || (ended.files.length === 0 && ended.filesOmittedCount === 0)) return;
    // Nothing else of what is given: its results may have megabytes.
    const { files, filesOmitted, filesOmittedCount } = ended;
    const stored = { files, filesOmitted, filesOmittedCount };
    const names = [...files, ...filesOmitted];
    const bytes = names.reduce((sum, { path }) => sum + ENTRY_BYTES + 2 * path.length, ENTRY_BYTES);
    // Two may have stored them, each for its own reader.
    this.#remove(executionId);
    this.#ended.set(executionId, { stored, bytes, endedAtMs: this.#elapsed() });
    this.#bytes += bytes;
    this.#trim();
  }

  /** Undefined where nobody here has stored them or is about to. */
  find(executionId: string): Promise<StoredFiles | null> | undefined {
    this.#trim();
    const entry = this.#ended.get(executionId);
    return entry ? Promise.resolve(entry.stored) : this.#running.get(executionId)?.storedFiles;
  }

  #trim(): void {
    const before = this.#elapsed() - RECORD_TTL_MS;
    for (const [executionId, { endedAtMs }] of this.#ended) {
      if (endedAtMs > before && this.#bytes <= this.#maxBytes) return;
      this.#remove(executionId);
    }
  }

  #remove(executionId: string): void {
    this.#bytes -= this.#ended.get(executionId)?.bytes ?? 0;
    this.#ended.delete(executionId);
  }
}
