import { Failure } from '../../shared/errors.ts';
import { invalid } from '../http/parse-json.ts';
import {
  type FileCeilings,
  type FileList,
  type FileMeta,
  type FileUsage,
  fileNotFound,
  fileTooLarge,
} from './file-store.ts';
import { comparePositions, OrderedFiles, type Position } from './ordered-files.ts';

/** Configuration of a store; MAX_FILE_SIZE_MB, FILE_STORE_MAX_BYTES and FILE_TTL_SEC in the units that code uses. */
export type FileStoreLimits = {
  maxFileBytes: number;
  /** All principals together. */
  maxBytes: number;
  /** All principals together: an empty file has no bytes but an entry all the same. */
  maxFiles: number;
  ttlMs: number;
};

/** Whose a file is, and where its bytes count: digests of both. */
export type Holding = { principal: string; holder: string };
type Entry = Holding & { meta: FileMeta };

const CURSOR = /^(\d{1,12}(?:\.\d{1,9})?)_([0-9a-f-]{36})$/;

/**
 * The index of a store that serves one replica: what each principal has, what each holder uses and what writers have
 * reserved. It decides every ceiling and the TTL; it does no I/O. Callers make a file visible on disk first and `settle`
 * after.
 */
export class FileLedger {
  readonly #limits: FileStoreLimits;
  readonly #now: () => number;
  /** In order of upload, so that the expired ones come first. */
  readonly #files = new Map<string, Entry>();
  readonly #principals = new Map<string, OrderedFiles>();
  readonly #holders = new Map<string, FileUsage>();
  #bytes = 0;
  #count = 0;

  constructor(limits: FileStoreLimits, now: () => number) {
    this.#limits = limits;
    this.#now = now;
  }

  /** Takes in a file that exists already. Call in order of `upload_time`. */
  restore({ principal, holder, meta }: Entry): void {
    this.#charge(holder, meta.size_bytes, 1);
    this.#enter({ principal, holder, meta });
  }

  /** Reserves one file without bytes. Throws `too_large`. */
  reserve({ principal, holder }: Holding, ceilings: FileCeilings): FileReservation {
    const { count } = this.usage(holder);
    if (ceilings.file_count !== null && count >= ceilings.file_count) {
      throw new Failure(
        'too_large',
        `Your key allows ${ceilings.file_count} files; delete some or wait until they expire`,
      );
    }
    if (this.#count >= this.#limits.maxFiles) throw storeFull();
    this.#charge(holder, 0, 1);
    let bytes = 0;
    let open = true;
    return {
      grow: (more) => {
        this.#admit(holder, ceilings, bytes + more, more);
        this.#charge(holder, more, 0);
        bytes += more;
      },
      settle: (meta) => {
        if (!open) return;
        open = false;
        this.#enter({ principal, holder, meta });
      },
      release: () => {
        if (!open) return;
        open = false;
        this.#charge(holder, -bytes, -1);
      },
      get bytes() {
        return bytes;
      },
    };
  }

  /** Throws `not_found` for a file that is missing, expired or another principal's. */
  get(principal: string, id: string): FileMeta {
    const entry = this.#files.get(id);
    if (entry === undefined || entry.principal !== principal || this.#isExpired(entry.meta))
      throw fileNotFound(id);
    return entry.meta;
  }

  list(principal: string, limit: number, cursor: string | undefined): FileList {
    const after = cursor === undefined ? undefined : parseCursor(cursor);
    const isIn = (meta: FileMeta) =>
      !this.#isExpired(meta) && (after === undefined || comparePositions(meta, after) > 0);
    const found = this.#principals.get(principal)?.page(isIn, limit + 1) ?? [];
    const page = found.slice(0, limit);
    const last = page.at(-1);
    const more = found.length > page.length && last !== undefined;
    return { files: page, next_cursor: more ? `${last.upload_time}_${last.file_id}` : null };
  }

  /** False when it was gone already. */
  remove(id: string): boolean {
    const entry = this.#files.get(id);
    if (entry === undefined) return false;
    this.#files.delete(id);
    const owned = this.#principals.get(entry.principal);
    owned?.remove(entry.meta);
    if (owned?.isEmpty) this.#principals.delete(entry.principal);
    this.#charge(entry.holder, -entry.meta.size_bytes, -1);
    return true;
  }

  usage(holder: string): FileUsage {
    return { ...(this.#holders.get(holder) ?? { bytes: 0, count: 0 }) };
  }

  /** The oldest first. Others may come and go meanwhile. */
  *expired(): Generator<{ principal: string; id: string }, void, void> {
    for (const [id, { principal, meta }] of this.#files) {
      if (this.#isExpired(meta)) yield { principal, id };
      // One that was stored while the clock was ahead stands before those that expire first.
      else if (meta.upload_time * 1000 <= this.#now()) return;
    }
  }

  #admit(holder: string, ceilings: FileCeilings, size: number, more: number): void {
    if (size > this.#limits.maxFileBytes) throw fileTooLarge(this.#limits.maxFileBytes);
    if (ceilings.file_bytes !== null && this.usage(holder).bytes + more > ceilings.file_bytes) {
      throw new Failure(
        'too_large',
        `Your key allows ${ceilings.file_bytes} bytes of files in all; delete some or wait until they expire`,
      );
    }
    if (this.#bytes + more > this.#limits.maxBytes) throw storeFull();
  }

  #enter(entry: Entry): void {
    const id = entry.meta.file_id;
    this.#files.set(id, entry);
    const owned = this.#principals.get(entry.principal) ?? new OrderedFiles();
    owned.add(entry.meta);
    this.#principals.set(entry.principal, owned);
  }

  #charge(holder: string, bytes: number, count: number): void {
    const used = this.usage(holder);
    used.bytes += bytes;
    used.count += count;
    if (used.count === 0) this.#holders.delete(holder);
    else this.#holders.set(holder, used);
    this.#bytes += bytes;
    this.#count += count;
  }

  #isExpired(meta: FileMeta): boolean {
    return meta.upload_time * 1000 + this.#limits.ttlMs <= this.#now();
  }
}

/** Room held for one file on its way in. Ends with `settle` or `release`, whichever comes first. */
export type FileReservation = {
  readonly bytes: number;
  /** Throws `too_large` and reserves nothing where `more` bytes would pass a ceiling. */
  grow(more: number): void;
  settle(meta: FileMeta): void;
  release(): void;
};

/** For a full store and a full disk alike. */
export function storeFull(cause?: unknown): Failure {
  return new Failure('too_large', 'The file store is full; wait until files expire', { cause });
}

function parseCursor(cursor: string): Position {
  const [, time, id] = CURSOR.exec(cursor) ?? [];
  if (time === undefined || id === undefined) {
    throw invalid([{ path: 'cursor', message: 'cursor is not one that this list gave' }]);
  }
  return { upload_time: Number(time), file_id: id };
}
