import { EndedMemory } from './ended-memory.ts';
import type { OutputEnding } from './ending.ts';

/** Memory for names and ids of files, over all executions. */
export const MAX_SHELF_BYTES = 16_777_216;
const ENTRY_BYTES = 512;

/** What became of an execution's files. */
export type StoredFiles = Pick<OutputEnding, 'files' | 'filesOmitted' | 'filesOmittedCount'>;
type Storing = { readonly storedFiles: Promise<StoredFiles | null> };

/**
 * What became of the files of executions that this gateway ran, for those who read them once more: their files need not
 * be stored again. Nothing is lost with it: who does not find them here stores them.
 */
export class ResultShelf {
  readonly #running = new Map<string, Storing>();
  readonly #ended: EndedMemory<StoredFiles>;

  constructor(elapsed: () => number, maxBytes = MAX_SHELF_BYTES, maxBytesPerTenant = maxBytes) {
    this.#ended = new EndedMemory({ elapsed, max: maxBytes, maxPerTenant: maxBytesPerTenant });
  }

  get bytes(): number {
    return this.#ended.weight;
  }

  begin(executionId: string, storing: Storing): void {
    this.#running.set(executionId, storing);
  }

  /** Null: they are not stored, or not any more. */
  end(tenant: string, executionId: string, ended: StoredFiles | null): void {
    this.#running.delete(executionId);
    if (!ended || (ended.files.length === 0 && ended.filesOmittedCount === 0)) return;
    // Nothing else of what is given: its results may have megabytes.
    const { files, filesOmitted, filesOmittedCount } = ended;
    const stored = { files, filesOmitted, filesOmittedCount };
    const names = [...files, ...filesOmitted];
    const bytes = names.reduce((sum, { path }) => sum + ENTRY_BYTES + 2 * path.length, ENTRY_BYTES);
    // Two may have stored them, each for its own reader.
    this.#ended.set(tenant, executionId, stored, bytes);
  }

  /** Undefined where nobody here has stored them or is about to. */
  find(tenant: string, executionId: string): Promise<StoredFiles | null> | undefined {
    const stored = this.#ended.get(tenant, executionId);
    return stored ? Promise.resolve(stored) : this.#running.get(executionId)?.storedFiles;
  }
}
