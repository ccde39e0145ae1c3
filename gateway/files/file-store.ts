import { Failure } from '../../shared/errors.ts';

/** What the store says about one file; JSON names, since it is answered as it is. */
export type FileMeta = {
  /** UUID, lower case. */
  file_id: string;
  /** A base name of 1 to 255 bytes: see `fileName` in file-name.ts. */
  filename: string;
  size_bytes: number;
  /** Unix seconds, with a fraction. */
  upload_time: number;
};

/** Ceilings over all files of one holder, as its key gives them; null is none but the store's own. */
export type FileCeilings = { file_bytes: number | null; file_count: number | null };

export type CreateOptions = {
  ceilings: FileCeilings;
  /**
   * Where ceilings count; the principal itself by default. A key that speaks for many end users counts them together:
   * naming another user must not win room.
   */
  holder?: string;
  /** Aborts the writer, as `abort()` does. */
  signal?: AbortSignal;
};

/**
 * One file on its way in. Nothing of it is visible before `commit` resolves. Every byte is reserved against all
 * ceilings before it is stored, so parallel writers never exceed them together. One call at a time: a writer that is
 * called while an earlier call runs rejects. A call that rejects has given everything back; later ones reject alike.
 */
export type FileWriter = {
  /** Resolves when the store has room for more. Rejects with `too_large` past a ceiling. */
  write(chunk: Uint8Array): Promise<void>;
  /** The name comes last: an execution announces an output file's name after its bytes. */
  commit(options: { filename: string }): Promise<FileMeta>;
  /** Leaves nothing behind. Idempotent; after `commit` it does nothing. */
  abort(): Promise<void>;
};

export type FileList = { files: FileMeta[]; next_cursor: string | null };
export type FileUsage = { bytes: number; count: number };

/**
 * Files of principals. Nothing is ever visible to another. A file that is missing,
 * expired or another principal's, and an id that is no UUID, all fail with `not_found` and the same sentence.
 */
export type FileStore = {
  /** Rejects with `too_large` where the holder or the store may not hold one file more. */
  create(principal: string, options: CreateOptions): Promise<FileWriter>;
  stat(principal: string, id: string): Promise<FileMeta>;
  /** The body is read only as fast as it is taken; cancelling it or aborting `signal` lets go of the file. */
  open(
    principal: string,
    id: string,
    signal?: AbortSignal,
  ): Promise<{ meta: FileMeta; body: ReadableStream<Uint8Array<ArrayBuffer>> }>;
  /** Oldest first. A cursor that this store never gave fails with `invalid_request`. */
  list(principal: string, options: { limit: number; cursor?: string | undefined }): Promise<FileList>;
  delete(principal: string, id: string): Promise<void>;
  /** What ceilings count for one holder: files that are visible, and what writers have reserved so far. */
  usage(holder: string): Promise<FileUsage>;
};

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The id in the one spelling that stores use. Throws `not_found` for anything that is no UUID: no path is ever made of it. */
export function parseFileId(id: string): string {
  const lower = id.length === 36 ? id.toLowerCase() : '';
  if (!UUID.test(lower)) throw fileNotFound(id);
  return lower;
}

export function fileNotFound(id: string): Failure {
  return new Failure('not_found', `File with ID '${id}' not found`);
}

/** The contract's own sentence; `maxBytes` counts MB of 1,048,576 bytes. */
export function fileTooLarge(maxBytes: number): Failure {
  return new Failure('too_large', `File size exceeds maximum of ${Math.floor(maxBytes / 1_048_576)} MB`);
}
