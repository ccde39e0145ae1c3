import { Failure } from '../../shared/errors.ts';
import { type FileStore, fileNotFound } from './file-store.ts';

/**
 * The store of a gateway that keeps no files, as several replicas must until they have one to share: every id is
 * unknown, uploads are refused, and what programs leave is named among the omitted. Files with inline content work.
 */
export function createNoFileStore(): FileStore {
  const missing = (_principal: string, id: string) => Promise.reject(fileNotFound(id));
  return {
    create: () =>
      Promise.reject(
        new Failure('not_implemented', 'This gateway keeps no files; send content with the request instead.'),
      ),
    stat: missing,
    open: missing,
    delete: missing,
    list: () => Promise.resolve({ files: [], next_cursor: null }),
    usage: () => Promise.resolve({ bytes: 0, count: 0 }),
  };
}
