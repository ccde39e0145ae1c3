import { Chunk } from '../../shared/chunk.ts';
import { Failure } from '../../shared/errors.ts';
import { MAX_FILES_OMITTED, MAX_RESULT_FILES, MAX_RESULT_FILES_BYTES } from '../../shared/limits.ts';
import type { FileEnd } from '../../shared/messages.ts';
import { filePath } from '../../shared/request-fields.ts';
import type { Caller } from '../auth/caller.ts';
import { fileName } from '../files/file-name.ts';
import type { FileStore, FileWriter } from '../files/file-store.ts';

export type ResultFile = { path: string; kind: 'file'; file_id: string };
export type OmittedFile = { path: string; reason: string };

export type ResultFilesOptions = {
  store: FileStore;
  caller: Caller;
  maxFileBytes: number;
  /** Bytes of channel 3 that have been taken: the stream's window may rise. */
  consumed(bytes: number): void;
};

/** `lost`: some of its bytes are gone. */
type Step = { chunk: Chunk } | { end: FileEnd; lost: boolean };

/**
 * Stores the files of one execution as they stream in. Whatever the agent says is checked again: paths, counts, sizes.
 * A file that cannot be kept is named among the omitted; it never fails the execution.
 */
export class ResultFiles {
  readonly files: ResultFile[] = [];
  readonly omitted: OmittedFile[] = [];
  omittedCount = 0;
  storedBytes = 0;
  readonly #options: ResultFilesOptions;
  readonly #paths = new Set<string>();
  readonly #steps: Step[] = [];
  #received = 0;
  /** Bytes that are gone, of the files whose END comes next. */
  #lost = 0;
  #ends = 0;
  #working: Promise<void> | undefined;
  #writer: FileWriter | undefined;
  #written = 0;
  /** Why the file that is coming in cannot be kept. */
  #refusal: string | undefined;
  #aborted = false;

  constructor(options: ResultFilesOptions) {
    this.#options = options;
  }

  data(bytes: Uint8Array): void {
    this.#received += bytes.byteLength;
    const last = this.#steps.at(-1);
    if (last && 'chunk' in last && last.chunk.append(bytes)) return;
    this.#push({ chunk: new Chunk(bytes) });
  }

  /** False when the agent breaks the protocol: a size that is not what came, or more files than may be. */
  end(end: FileEnd): boolean {
    const size = this.#received;
    const lost = Math.min(this.#lost, Math.max(0, end.size - size));
    this.#received = 0;
    this.#lost -= lost;
    this.#ends += 1;
    if (end.size !== size + lost || this.#ends > MAX_RESULT_FILES) return false;
    this.#push({ end, lost: lost > 0 });
    return true;
  }

  /** Bytes are gone that will not come: the files they are of are omitted. */
  lose(bytes: number): void {
    this.#lost += bytes;
  }

  /** Whether bytes have come whose END has not. */
  get unfinished(): boolean {
    return this.#received > 0;
  }

  /** Resolves when everything that came is stored or given up, a file that was cut off among it. */
  async ended(): Promise<void> {
    await this.settled();
    if (this.unfinished) await this.#abort();
  }

  /** Resolves when everything that came is stored or given up. */
  async settled(): Promise<void> {
    while (this.#working) await this.#working;
  }

  /** Stores no more and takes back what was stored: nobody will ever learn its ids. */
  async discard(): Promise<void> {
    this.#aborted = true;
    await this.settled();
    await this.#abort();
    const { store, caller } = this.#options;
    await Promise.all(
      this.files.splice(0).map(({ file_id }) => store.delete(caller.principal, file_id).catch(() => {})),
    );
  }

  #push(step: Step): void {
    this.#steps.push(step);
    if (!this.#working) this.#begin();
  }

  #begin(): void {
    this.#working = this.#work().finally(() => {
      this.#working = undefined;
      // A step may have come since its loop ended.
      if (this.#steps.length > 0) this.#begin();
    });
  }

  async #work(): Promise<void> {
    for (let step = this.#steps.shift(); step; step = this.#steps.shift()) {
      if ('chunk' in step) {
        const { bytes } = step.chunk;
        await this.#write(bytes);
        this.#options.consumed(bytes.byteLength);
      } else {
        if (step.lost) await this.#refuse('not_kept');
        await this.#close(step.end);
      }
    }
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (this.#refusal !== undefined || this.#aborted) return;
    this.#written += bytes.byteLength;
    if (this.#written > this.#options.maxFileBytes) return this.#refuse('too_large');
    if (this.storedBytes + this.#written > MAX_RESULT_FILES_BYTES) return this.#refuse('too_many_bytes');
    try {
      this.#writer ??= await this.#open();
      await this.#writer.write(bytes);
    } catch (error) {
      await this.#refuse(reasonOf(error));
    }
  }

  async #close({ path, size }: FileEnd): Promise<void> {
    if (this.#aborted) return this.#abort();
    if (!isSafe(path)) await this.#refuse('bad_path');
    else if (this.#paths.has(path)) await this.#refuse('twice');
    this.#paths.add(path);
    if (this.#refusal === undefined) {
      try {
        this.#writer ??= await this.#open();
        const { file_id } = await this.#writer.commit({ filename: fileName(path) });
        this.files.push({ path, kind: 'file', file_id });
        this.storedBytes += size;
      } catch (error) {
        await this.#refuse(reasonOf(error));
      }
    }
    if (this.#refusal !== undefined) this.#omit(path, this.#refusal);
    this.#writer = undefined;
    this.#written = 0;
    this.#refusal = undefined;
  }

  #open(): Promise<FileWriter> {
    const { store, caller } = this.#options;
    return store.create(caller.principal, { holder: caller.holder, ceilings: caller.limits });
  }

  async #refuse(reason: string): Promise<void> {
    this.#refusal ??= reason;
    await this.#abort();
  }

  async #abort(): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    await writer?.abort().catch(() => {});
  }

  #omit(path: string, reason: string): void {
    this.omittedCount += 1;
    if (this.omitted.length < MAX_FILES_OMITTED) this.omitted.push({ path, reason });
  }
}

/** Relative, no `..`, normal already: the same rule that input paths obey. */
function isSafe(path: string): boolean {
  const parsed = filePath.safeParse(path);
  return parsed.success && parsed.data === path;
}

function reasonOf(error: unknown): string {
  return error instanceof Failure && error.code === 'too_large' ? 'no_room' : 'not_stored';
}
