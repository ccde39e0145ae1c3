import { FileLedger, type FileStoreLimits, type Holding } from './file-ledger.ts';
import {
  type CreateOptions,
  type FileList,
  type FileMeta,
  type FileStore,
  type FileUsage,
  type FileWriter,
  fileNotFound,
  parseFileId,
} from './file-store.ts';
import { type FileSink, ReservedWriter } from './reserved-writer.ts';

/** Where an indexed store keeps bytes. Principal and holder are hex digests and `id` a UUID: all are safe in a path. */
export type Blobs = {
  begin(holding: Holding, id: string): Promise<FileSink>;
  /** Undefined when there is no such blob any more. */
  open(
    principal: string,
    meta: FileMeta,
    signal: AbortSignal | undefined,
  ): Promise<ReadableStream<Uint8Array<ArrayBuffer>> | undefined>;
  /** Idempotent. */
  remove(principal: string, id: string): Promise<void>;
};

export type IndexedFileStoreDeps = {
  blobs: Blobs;
  limits: FileStoreLimits;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Files that exist already, oldest first, by their digests. */
  existing?: readonly (Holding & { meta: FileMeta })[];
  /** Expired files that cannot be removed: each is told once, those of one sweep together. */
  onFault?: ((cause: unknown) => void) | undefined;
};

/**
 * A FileStore that keeps its index in memory and its bytes in `blobs`. Two of them over the same blobs would not see
 * each other's files: it serves one replica.
 */
export class IndexedFileStore implements FileStore {
  readonly #blobs: Blobs;
  readonly #ledger: FileLedger;
  readonly #now: () => number;
  readonly #onFault: (cause: unknown) => void;
  readonly #writers = new Set<FileWriter>();
  /** Expired files that could not be removed. They count until they are. */
  readonly #stuck = new Set<string>();
  #closed = false;

  constructor({ blobs, limits, now, existing = [], onFault = () => {} }: IndexedFileStoreDeps) {
    this.#blobs = blobs;
    this.#now = now;
    this.#onFault = onFault;
    this.#ledger = new FileLedger(limits, now);
    for (const file of existing) this.#ledger.restore(file);
  }

  async create(
    principal: string,
    { ceilings, holder = principal, signal }: CreateOptions,
  ): Promise<FileWriter> {
    const holding = { principal: await digestOf(principal), holder: await digestOf(holder) };
    signal?.throwIfAborted();
    const reservation = await this.#inRoom(() => this.#ledger.reserve(holding, ceilings));
    const id = crypto.randomUUID();
    try {
      const sink = await this.#blobs.begin(holding, id);
      const writer: FileWriter = new ReservedWriter({
        id,
        sink,
        reservation,
        inRoom: (take) => this.#inRoom(take),
        now: this.#now,
        signal,
        onEnd: () => this.#writers.delete(writer),
      });
      this.#writers.add(writer);
      if (this.#closed) await writer.abort();
      return writer;
    } catch (failure) {
      reservation.release();
      throw failure;
    }
  }

  async stat(principal: string, id: string): Promise<FileMeta> {
    const parsed = parseFileId(id);
    return this.#ledger.get(await digestOf(principal), parsed);
  }

  async open(principal: string, id: string, signal?: AbortSignal) {
    const parsed = parseFileId(id);
    const key = await digestOf(principal);
    const meta = this.#ledger.get(key, parsed);
    const body = await this.#blobs.open(key, meta, signal);
    if (body === undefined) {
      // Deleted since, by this store or by a hand on the disk.
      this.#ledger.remove(parsed);
      throw fileNotFound(id);
    }
    return { meta, body };
  }

  async list(principal: string, options: { limit: number; cursor?: string | undefined }): Promise<FileList> {
    return this.#ledger.list(await digestOf(principal), options.limit, options.cursor);
  }

  async delete(principal: string, id: string): Promise<void> {
    const parsed = parseFileId(id);
    const key = await digestOf(principal);
    this.#ledger.get(key, parsed);
    await this.#blobs.remove(key, parsed);
    if (!this.#ledger.remove(parsed)) throw fileNotFound(id);
  }

  async usage(holder: string): Promise<FileUsage> {
    return this.#ledger.usage(await digestOf(holder));
  }

  /**
   * Removes what has expired; reads refuse it before that. What could not be removed is tried again here, and not where
   * somebody needs its room. Returns how many files went.
   */
  async sweep(): Promise<number> {
    let gone = 0;
    for await (const _id of this.#remove(() => true)) gone += 1;
    return gone;
  }

  /** Aborts the writers that are still open, and those that are being opened. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled([...this.#writers].map((writer) => writer.abort()));
  }

  /**
   * What has expired counts until it is removed: where there is no room as much of it goes as is needed, and nobody waits
   * for it elsewhere.
   */
  async #inRoom<Result>(take: () => Result): Promise<Result> {
    let failure: unknown;
    try {
      return take();
    } catch (full) {
      failure = full;
    }
    for await (const _id of this.#remove((id) => !this.#stuck.has(id))) {
      try {
        return take();
      } catch (full) {
        failure = full;
      }
    }
    throw failure;
  }

  /** Removes what has expired, and yields the id of each that went. Each on its own: one that stays keeps no other from going. */
  async *#remove(isMeant: (id: string) => boolean): AsyncGenerator<string, void, void> {
    const faults: unknown[] = [];
    try {
      for (const { principal, id } of this.#ledger.expired()) {
        if (!isMeant(id)) continue;
        try {
          await this.#blobs.remove(principal, id);
        } catch (cause) {
          if (!this.#stuck.has(id)) faults.push(cause);
          this.#stuck.add(id);
          continue;
        }
        this.#stuck.delete(id);
        this.#ledger.remove(id);
        yield id;
      }
    } finally {
      const [first] = faults;
      if (faults.length > 0)
        this.#onFault(
          new Error(`expired files that cannot be removed: ${faults.length}, the first: ${first}`, {
            cause: first,
          }),
        );
    }
  }
}

/** The name of a principal or a holder in paths: its own characters never reach one. */
async function digestOf(name: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(name));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
