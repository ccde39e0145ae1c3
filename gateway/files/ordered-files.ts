import type { FileMeta } from './file-store.ts';

/** Where a file stands in a list: oldest first, those of one millisecond by their ids. */
export type Position = Pick<FileMeta, 'upload_time' | 'file_id'>;

const MAX_BLOCK = 512;

/**
 * The files of one principal in the order of their list, in whatever order they come. They lie in blocks of at most
 * `maxBlock`: to add one, to remove one and to begin a page each take a search, and a move within one block.
 */
export class OrderedFiles {
  readonly #maxBlock: number;
  /** None is empty. */
  readonly #blocks: FileMeta[][] = [];

  constructor(maxBlock = MAX_BLOCK) {
    this.#maxBlock = maxBlock;
  }

  get isEmpty(): boolean {
    return this.#blocks.length === 0;
  }

  add(meta: FileMeta): void {
    const isAfter = (each: FileMeta) => comparePositions(each, meta) > 0;
    const at = Math.max(0, Math.min(this.#blockWhere(isAfter), this.#blocks.length - 1));
    const block = this.#blocks[at] ?? [];
    block.splice(firstWhere(block, isAfter), 0, meta);
    this.#blocks[at] = block;
    if (block.length > this.#maxBlock) this.#blocks.splice(at + 1, 0, block.splice(block.length >>> 1));
  }

  remove(meta: FileMeta): void {
    const isThere = (each: FileMeta) => comparePositions(each, meta) >= 0;
    const at = this.#blockWhere(isThere);
    const block = this.#blocks[at] ?? [];
    const index = firstWhere(block, isThere);
    if (block[index]?.file_id !== meta.file_id) return;
    block.splice(index, 1);
    if (block.length === 0) this.#blocks.splice(at, 1);
  }

  /** At most `limit`, from the first for which `isIn` holds, as it must for all after it. */
  page(isIn: (meta: FileMeta) => boolean, limit: number): FileMeta[] {
    const page: FileMeta[] = [];
    const at = this.#blockWhere(isIn);
    let start = firstWhere(this.#blocks[at] ?? [], isIn);
    for (let next = at; next < this.#blocks.length && page.length < limit; next += 1) {
      const block = this.#blocks[next] as FileMeta[];
      page.push(...block.slice(start, start + limit - page.length));
      start = 0;
    }
    return page;
  }

  /** Of the first block with one for which `isIn` holds; as many as there are where none has. */
  #blockWhere(isIn: (meta: FileMeta) => boolean): number {
    return firstWhere(this.#blocks, (block) => isIn(block.at(-1) as FileMeta));
  }
}

export function comparePositions(a: Position, b: Position): number {
  return a.upload_time - b.upload_time || (a.file_id < b.file_id ? -1 : a.file_id > b.file_id ? 1 : 0);
}

/** The index of the first for which `holds` is true, as it must be for all after it; the length where it is for none. */
function firstWhere<Item>(items: readonly Item[], holds: (item: Item) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(items[middle] as Item)) high = middle;
    else low = middle + 1;
  }
  return low;
}
