import { Failure } from '../../shared/errors.ts';
import {
  type FileCeilings,
  type FileList,
  type FileMeta,
  type FileUsage,
  fileNotFound,
  fileTooLarge,
} from './file-store.ts';

/** Configuration of a store; MAX_FILE_SIZE_MB, FILE_STORE_MAX_BYTES and FILE_TTL_SEC in the units that code uses. */
export type FileStoreLimits = {
  maxFileBytes: number;
  /** All principals together. */
  maxBytes: number;
  /** All principals together: an empty file has no bytes but an entry all the same. */
  maxFiles: number;
  ttlMs: number;
};

/** Who a file belongs to, and where its bytes count. */
export type Holding = { owner: string; account: string };
type Entry = Holding & { meta: FileMeta };

const CURSOR = /^(\d{1,12}(?:\.\d{1,9})?)_([0-9a-f-]{36})$/;

/**
 * The index of a store that serves one replica: what each owner has, what each account uses and what writers have reserved. It decides every
 * ceiling and the TTL; it does no I/O. Callers make a file visible on disk first and `settle` after.
 */
export class FileLedger {
  readonly #limits: FileStoreLimits;
  readonly #now: () => number;
  /** In order of upload, so that the expired ones come first. */
  readonly #files = new Map<string, Entry>();
  readonly #owners = new Map<string, Map<string, FileMeta>>();
  readonly #accounts = new Map<string, FileUsage>();
  #bytes = 0;
  #count = 0;

  constructor(limits: FileStoreLimits, now: () => number) {
    this.#limits = limits;
    this.#now = now;
  }

  /** Takes in a file that exists already. Call in order of `upload_time`. */
  restore({ owner, account, meta }: Entry): void {
    this.#charge(account, meta.size_bytes, 1);
    this.#enter({ owner, account, meta });
  }

  /** Reserves one file without bytes. Throws `too_large`. */
  reserve({ owner, account }: Holding, ceilings: FileCeilings): Reservation {
    const { count } = this.usage(account);
    if (ceilings.file_count !== null && count >= ceilings.file_count) {
      throw new Failure(
        'too_large',
        `Your key allows ${ceilings.file_count} files; delete some or wait until they expire`,
      );
    }
    if (this.#count >= this.#limits.maxFiles) throw storeFull();
    this.#charge(account, 0, 1);
    let bytes = 0;
    let open = true;
    return {
      grow: (more) => {
        this.#admit(account, ceilings, bytes + more, more);
        this.#charge(account, more, 0);
        bytes += more;
      },
      settle: (meta) => {
        if (!open) return;
        open = false;
        this.#enter({ owner, account, meta });
      },
      release: () => {
        if (!open) return;
        open = false;
        this.#charge(account, -bytes, -1);
      },
      get bytes() {
        return bytes;
      },
    };
  }

  /** Throws `not_found` for a file that is missing, expired or another owner's. */
  get(owner: string, id: string): FileMeta {
    const entry = this.#files.get(id);
    if (entry === undefined || entry.owner !== owner || this.#isExpired(entry.meta)) throw fileNotFound(id);
    return entry.meta;
  }

  list(owner: string, limit: number, cursor: string | undefined): FileList {
    const after = cursor === undefined ? undefined : parseCursor(cursor);
    const files = [...(this.#owners.get(owner)?.values() ?? [])]
      .filter((meta) => !this.#isExpired(meta) && (after === undefined || compare(meta, after) > 0))
      .sort(compare);
    const page = files.slice(0, limit);
    const last = page.at(-1);
    const more = files.length > page.length && last !== undefined;
    return { files: page, next_cursor: more ? `${last.upload_time}_${last.file_id}` : null };
  }

  /** False when it was gone already. */
  remove(id: string): boolean {
    const entry = this.#files.get(id);
    if (entry === undefined) return false;
    this.#files.delete(id);
    const owned = this.#owners.get(entry.owner);
    owned?.delete(id);
    if (owned?.size === 0) this.#owners.delete(entry.owner);
    this.#charge(entry.account, -entry.meta.size_bytes, -1);
    return true;
  }

  usage(account: string): FileUsage {
    return { ...(this.#accounts.get(account) ?? { bytes: 0, count: 0 }) };
  }

  expired(): { owner: string; id: string }[] {
    const found: { owner: string; id: string }[] = [];
    for (const [id, { owner, meta }] of this.#files) {
      if (this.#isExpired(meta)) found.push({ owner, id });
      // One that was stored while the clock was ahead stands before those that expire first.
      else if (meta.upload_time * 1000 <= this.#now()) break;
    }
    return found;
  }

  #admit(account: string, ceilings: FileCeilings, size: number, more: number): void {
    if (size > this.#limits.maxFileBytes) throw fileTooLarge(this.#limits.maxFileBytes);
    if (ceilings.file_bytes !== null && this.usage(account).bytes + more > ceilings.file_bytes) {
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
    const owned = this.#owners.get(entry.owner) ?? new Map<string, FileMeta>();
    this.#owners.set(entry.owner, owned.set(id, entry.meta));
  }

  #charge(account: string, bytes: number, count: number): void {
    const used = this.usage(account);
    used.bytes += bytes;
    used.count += count;
    if (used.count === 0) this.#accounts.delete(account);
    else this.#accounts.set(account, used);
    this.#bytes += bytes;
    this.#count += count;
  }

  #isExpired(meta: FileMeta): boolean {
    return meta.upload_time * 1000 + this.#limits.ttlMs <= this.#now();
  }
}

/** Room held for one file on its way in. Ends with `settle` or `release`, whichever comes first. */
export type Reservation = {
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

function parseCursor(cursor: string): { upload_time: number; file_id: string } {
  const [, time, id] = CURSOR.exec(cursor) ?? [];
  if (time === undefined || id === undefined) {
    throw new Failure('invalid_request', 'cursor is not one that this list gave');
  }
  return { upload_time: Number(time), file_id: id };
}

type Position = Pick<FileMeta, 'upload_time' | 'file_id'>;

function compare(a: Position, b: Position): number {
  return a.upload_time - b.upload_time || (a.file_id < b.file_id ? -1 : a.file_id > b.file_id ? 1 : 0);
}
