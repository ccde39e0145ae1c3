import { expect, test } from 'vitest';
import { type Blobs, IndexedFileStore } from '../../gateway/files/indexed-file-store.ts';

const CEILINGS = { ceilings: { file_bytes: null, file_count: null } };
const TTL_MS = 1_000;

/** A store of two files or ten bytes, with files that have expired, whose blobs go when `letGo` is called. */
async function withExpired(sizes = [6]) {
  const gone = Promise.withResolvers<void>();
  const removed: string[] = [];
  const blobs: Blobs = {
    begin: async () => ({ append: async () => {}, publish: async () => {}, discard: async () => {} }),
    open: async () => undefined,
    async remove(_principal, id) {
      removed.push(id);
      await gone.promise;
    },
  };
  const clock = { ms: 1_000_000 };
  const limits = { maxFileBytes: 100, maxBytes: 10, maxFiles: 2, ttlMs: TTL_MS };
  const store = new IndexedFileStore({ blobs, limits, now: () => clock.ms });
  const put = async (size: number) => {
    const writer = await store.create('acme/anna', CEILINGS);
    await writer.write(new Uint8Array(size));
    return writer.commit({ filename: 'a' });
  };
  const expired: string[] = [];
  for (const size of sizes) expired.push((await put(size)).file_id);
  clock.ms += TTL_MS;
  return { put, store, removed, expired, letGo: () => gone.resolve() };
}

test('an upload that has room waits for nothing that has expired', async () => {
  const { put, removed } = await withExpired();
  expect(await put(4)).toMatchObject({ size_bytes: 4 });
  expect(removed).toEqual([]);
});

test.for([
  ['file', [1, 1]],
  ['byte', [5]],
] as const)('the %s for which there is no room has that of what has expired', async ([, sizes]) => {
  const { put, removed, expired, letGo } = await withExpired();
  const uploads = sizes.map((size) => put(size));
  const last = uploads.at(-1);
  await expect.poll(() => removed).toEqual(expired);
  letGo();
  expect(await last).toMatchObject({ size_bytes: sizes.at(-1) });
});

test('what has no room without what has expired either is refused', async () => {
  const { put, removed, expired, letGo } = await withExpired();
  letGo();
  await expect(put(11)).rejects.toMatchObject({ code: 'too_large' });
  expect(removed).toEqual(expired);
});

test('no more of what has expired goes than there is need for', async () => {
  const { put, store, removed, expired, letGo } = await withExpired([5, 5]);
  letGo();
  await put(5);
  expect(removed).toEqual(expired.slice(0, 1));
  await put(5);
  expect(removed).toEqual(expired);
  expect(await store.sweep()).toBe(0);
});
