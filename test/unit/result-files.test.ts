import { expect, test } from 'vitest';
import type { Caller } from '../../gateway/auth/caller.ts';
import { ResultFiles } from '../../gateway/execution/result-files.ts';
import type { FileStore } from '../../gateway/files/file-store.ts';
import { MAX_RESULT_FILES, MAX_RESULT_FILES_BYTES } from '../../shared/limits.ts';

const PIECE = new Uint8Array(4_194_304);

/** Into a store that has room for everything and keeps nothing. */
function createBench() {
  const store = {
    create: async () => ({
      write: async () => {},
      commit: async () => ({ file_id: 'id' }),
      abort: async () => {},
    }),
  } as unknown as FileStore;
  const files = new ResultFiles({
    store,
    caller: { principal: 'acme/alice', holder: 'acme/alice' } as Caller,
    maxFileBytes: Number.POSITIVE_INFINITY,
    consumed() {},
  });
  return {
    store,
    files,
    /** False where the agent broke the protocol. */
    async take(path: string, size: number): Promise<boolean> {
      for (let left = size; left > 0; left -= PIECE.byteLength) {
        files.data(PIECE.subarray(0, left));
        await files.settled();
      }
      const holds = files.end({ path, size, sha256: '0'.repeat(64) });
      await files.settled();
      return holds;
    },
  };
}

test('files of an execution have MAX_RESULT_FILES_BYTES together: one with a byte more is left out, and the next fits', async () => {
  const { files, take } = createBench();
  expect(await take('first', MAX_RESULT_FILES_BYTES - 3)).toBe(true);
  expect(await take('more', 4)).toBe(true);
  expect(await take('rest', 3)).toBe(true);
  expect(files.files.map(({ path }) => path)).toEqual(['first', 'rest']);
  expect(files.omitted).toEqual([{ path: 'more', reason: 'too_many_bytes' }]);
  expect(files.storedBytes).toBe(MAX_RESULT_FILES_BYTES);
});

test('files of an execution are MAX_RESULT_FILES: an agent that sends one more breaks the protocol', async () => {
  const { files, take } = createBench();
  for (let count = 0; count < MAX_RESULT_FILES; count += 1) expect(await take(`${count}`, 0)).toBe(true);
  expect(await take('more', 0)).toBe(false);
  expect(files.files).toHaveLength(MAX_RESULT_FILES);
});

test('a file whose end comes in whatever turn behind its bytes is stored before they are settled', async () => {
  const { store } = createBench();
  const left: number[] = [];
  for (let turns = 0; turns < 10; turns += 1) {
    const ended = Promise.withResolvers<void>();
    const files = new ResultFiles({
      store,
      caller: { principal: 'acme/alice', holder: 'acme/alice' } as Caller,
      maxFileBytes: Number.POSITIVE_INFINITY,
      async consumed() {
        for (let turn = 0; turn < turns; turn += 1) await undefined;
        files.end({ path: 'a', size: 1, sha256: '0'.repeat(64) });
        ended.resolve();
      },
    });
    files.data(new Uint8Array(1));
    await ended.promise;
    await files.settled();
    if (files.files.length === 0) left.push(turns);
  }
  expect(left).toEqual([]);
});
