import { describe, expect, onTestFinished, test } from 'vitest';
import type { FileStoreLimits } from '../../gateway/files/file-ledger.ts';
import type { FileCeilings, FileMeta, FileStore } from '../../gateway/files/file-store.ts';

export type StoreUnderTest = { store: FileStore & { close(): Promise<void> }; sweep(): Promise<number> };
export type MakeStore = (limits: FileStoreLimits, now: () => number) => Promise<StoreUnderTest>;

const ANNA = 'acme/anna';
const BEN = 'acme/ben';
const NO_CEILINGS: FileCeilings = { file_bytes: null, file_count: null };
const LIMITS: FileStoreLimits = { maxFileBytes: 1000, maxBytes: 10_000, maxFiles: 100, ttlMs: 3_600_000 };
const GONE = 'ffffffff-ffff-4fff-8fff-ffffffffffff';
const STRANGE_IDS = ['', '..', '../../etc/passwd', 'a'.repeat(36), `${GONE}/..`, '%2e%2e', `${GONE}\0`];

const bytes = (size: number, fill = 7) => new Uint8Array(size).fill(fill);

async function put(
  store: FileStore,
  owner: string,
  size: number,
  more: Partial<{ filename: string; ceilings: FileCeilings }> = {},
): Promise<FileMeta> {
  const writer = await store.create(owner, { ceilings: more.ceilings ?? NO_CEILINGS });
  await writer.write(bytes(size));
  return writer.commit({ filename: more.filename ?? 'a.bin' });
}

async function read(store: FileStore, owner: string, id: string): Promise<Uint8Array> {
  const { body } = await store.open(owner, id);
  return new Uint8Array(await new Response(body).arrayBuffer());
}

const notFound = (id: string) => ({ code: 'not_found', detail: `File with ID '${id}' not found` });

/** What every FileStore keeps. */
export function describeFileStore(name: string, make: MakeStore): void {
  const start = async (limits: Partial<FileStoreLimits> = {}) => {
    const clock = { ms: 1_800_000_000_000 };
    const made = await make({ ...LIMITS, ...limits }, () => clock.ms);
    onTestFinished(() => made.store.close());
    return { ...made, clock };
  };

  describe(`${name}: files`, () => {
    test('come back as they went in, under the name given last', async () => {
      const { store, clock } = await start({ maxFileBytes: 1_000_000, maxBytes: 1_000_000 });
      const content = crypto.getRandomValues(new Uint8Array(60_000));
      const writer = await store.create(ANNA, { ceilings: NO_CEILINGS });
      for (let at = 0; at < content.byteLength; at += 7_001)
        await writer.write(content.subarray(at, at + 7_001));
      const meta = await writer.commit({ filename: 'zwölf.csv' });
      expect(meta).toEqual({
        file_id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-4/),
        filename: 'zwölf.csv',
        size_bytes: 60_000,
        upload_time: clock.ms / 1000,
      });
      expect(await store.stat(ANNA, meta.file_id)).toEqual(meta);
      expect(await store.stat(ANNA, meta.file_id.toUpperCase())).toEqual(meta);
      expect(await read(store, ANNA, meta.file_id)).toEqual(content);
    });

    test('come while their owner’s last one goes', async () => {
      const { store } = await start();
      const comeAndGo = async () => {
        for (let turn = 0; turn < 200; turn += 1)
          await store.delete(ANNA, (await put(store, ANNA, 1)).file_id);
      };
      await Promise.all(Array.from({ length: 6 }, comeAndGo));
      expect(await store.usage(ANNA)).toEqual({ bytes: 0, count: 0 });
    });

    test('may be empty', async () => {
      const { store } = await start();
      const writer = await store.create(ANNA, { ceilings: NO_CEILINGS });
      const { file_id } = await writer.commit({ filename: 'empty' });
      expect(await read(store, ANNA, file_id)).toHaveLength(0);
    });

    test.for(['.env', 'a\nb', 'x'.repeat(255), '😀.txt', '"quoted\\".csv'])(
      'keep the name %j',
      async (filename) => {
        const { store } = await start();
        const { file_id } = await put(store, ANNA, 1, { filename });
        expect((await store.stat(ANNA, file_id)).filename).toBe(filename);
      },
    );

    test('are read in turn by a reader that is slow, and let go of by one that leaves', async () => {
      const { store } = await start({ maxFileBytes: 1_000_000, maxBytes: 1_000_000 });
      const { file_id } = await put(store, ANNA, 500_000);
      const { body } = await store.open(ANNA, file_id);
      const reader = body.getReader();
      expect((await reader.read()).value?.byteLength).toBeGreaterThan(0);
      await reader.cancel();
      const leaving = new AbortController();
      const aborted = await store.open(ANNA, file_id, leaving.signal);
      leaving.abort(new Error('left'));
      await expect(new Response(aborted.body).arrayBuffer()).rejects.toThrow();
      expect(await read(store, ANNA, file_id)).toHaveLength(500_000);
    });

    test('that are deleted are gone, once', async () => {
      const { store } = await start();
      const { file_id } = await put(store, ANNA, 10);
      await store.delete(ANNA, file_id);
      await expect(store.stat(ANNA, file_id)).rejects.toMatchObject(notFound(file_id));
      await expect(store.open(ANNA, file_id)).rejects.toMatchObject(notFound(file_id));
      await expect(store.delete(ANNA, file_id)).rejects.toMatchObject(notFound(file_id));
      expect(await store.list(ANNA, { limit: 10 })).toEqual({ files: [], next_cursor: null });
      expect(await store.usage(ANNA)).toEqual({ bytes: 0, count: 0 });
    });

    test('of another principal do not exist', async () => {
      const { store } = await start();
      const { file_id } = await put(store, ANNA, 10);
      await expect(store.stat(BEN, file_id)).rejects.toMatchObject(notFound(file_id));
      await expect(store.open(BEN, file_id)).rejects.toMatchObject(notFound(file_id));
      await expect(store.delete(BEN, file_id)).rejects.toMatchObject(notFound(file_id));
      expect(await store.list(BEN, { limit: 10 })).toEqual({ files: [], next_cursor: null });
      expect((await store.stat(ANNA, file_id)).size_bytes).toBe(10);
    });

    test.for([GONE, ...STRANGE_IDS])('with the id %j are not found', async (id) => {
      const { store } = await start();
      await expect(store.stat(ANNA, id)).rejects.toMatchObject(notFound(id));
      await expect(store.open(ANNA, id)).rejects.toMatchObject(notFound(id));
      await expect(store.delete(ANNA, id)).rejects.toMatchObject(notFound(id));
    });

    test.for(['../anna', '', 'a/b/c', '\0', 'x'.repeat(5_000), '😀'])(
      'belong to the principal %j',
      async (owner) => {
        const { store } = await start();
        const { file_id } = await put(store, owner, 5);
        expect(await read(store, owner, file_id)).toHaveLength(5);
        await expect(store.stat(ANNA, file_id)).rejects.toMatchObject(notFound(file_id));
      },
    );
  });

  describe(`${name}: writers`, () => {
    test('show nothing before commit and leave nothing after abort', async () => {
      const { store } = await start();
      const writer = await store.create(ANNA, { ceilings: NO_CEILINGS });
      await writer.write(bytes(100));
      expect((await store.list(ANNA, { limit: 10 })).files).toEqual([]);
      expect(await store.usage(ANNA)).toEqual({ bytes: 100, count: 1 });
      await writer.abort();
      await writer.abort();
      expect(await store.usage(ANNA)).toEqual({ bytes: 0, count: 0 });
      await expect(writer.write(bytes(1))).rejects.toMatchObject({ code: 'cancelled' });
      await expect(writer.commit({ filename: 'a' })).rejects.toMatchObject({ code: 'cancelled' });
    });

    test('end with their signal', async () => {
      const { store } = await start();
      const leaving = new AbortController();
      const writer = await store.create(ANNA, { ceilings: NO_CEILINGS, signal: leaving.signal });
      await writer.write(bytes(100));
      leaving.abort();
      await expect(writer.write(bytes(1))).rejects.toMatchObject({ code: 'cancelled' });
      await expect.poll(() => store.usage(ANNA)).toEqual({ bytes: 0, count: 0 });
      await expect(store.create(ANNA, { ceilings: NO_CEILINGS, signal: leaving.signal })).rejects.toThrow();
    });

    test('end with their signal whenever that comes while they are opened', async () => {
      const { store } = await start();
      for (let turns = 0; turns < 8; turns += 1) {
        const leaving = new AbortController();
        const opening = store.create(ANNA, { ceilings: NO_CEILINGS, signal: leaving.signal });
        for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
        leaving.abort();
        const writing = opening.then((writer) => writer.commit({ filename: 'a' }));
        await expect(writing).rejects.toThrow(/abort/);
        await expect.poll(() => store.usage(ANNA)).toEqual({ bytes: 0, count: 0 });
      }
    });

    test('keep what is being committed when they are aborted', async () => {
      const { store } = await start();
      const writer = await store.create(ANNA, { ceilings: NO_CEILINGS });
      await writer.write(bytes(3));
      const [{ file_id }] = await Promise.all([writer.commit({ filename: 'a' }), writer.abort()]);
      expect(await read(store, ANNA, file_id)).toHaveLength(3);
      expect(await store.usage(ANNA)).toEqual({ bytes: 3, count: 1 });
    });

    test('keep what is committed when they are aborted after it', async () => {
      const { store } = await start();
      const leaving = new AbortController();
      const writer = await store.create(ANNA, { ceilings: NO_CEILINGS, signal: leaving.signal });
      await writer.write(bytes(3));
      const { file_id } = await writer.commit({ filename: 'a' });
      leaving.abort();
      await writer.abort();
      expect(await read(store, ANNA, file_id)).toHaveLength(3);
      await expect(writer.write(bytes(1))).rejects.toThrow('committed');
    });

    test('take one call at a time', async () => {
      const { store } = await start();
      const writer = await store.create(ANNA, { ceilings: NO_CEILINGS });
      const first = writer.write(bytes(10));
      await expect(writer.write(bytes(10))).rejects.toThrow('one call at a time');
      await first;
      expect((await writer.commit({ filename: 'a' })).size_bytes).toBe(10);
    });
  });

  describe(`${name}: ceilings`, () => {
    test('a file takes exactly maxFileBytes and not one more', async () => {
      const { store } = await start({ maxFileBytes: 104_857_600, maxBytes: 1_000_000_000 });
      const writer = await store.create(ANNA, { ceilings: NO_CEILINGS });
      const chunk = bytes(1_048_576);
      for (let mb = 0; mb < 100; mb++) await writer.write(chunk);
      await expect(writer.write(bytes(1))).rejects.toMatchObject({
        code: 'too_large',
        status: 413,
        detail: 'File size exceeds maximum of 100 MB',
      });
      await expect(writer.commit({ filename: 'a' })).rejects.toMatchObject({ code: 'too_large' });
      expect(await store.usage(ANNA)).toEqual({ bytes: 0, count: 0 });
    });

    test('a principal has exactly its bytes and its files', async () => {
      const { store } = await start();
      const ceilings = { file_bytes: 100, file_count: 2 };
      await put(store, ANNA, 60, { ceilings });
      await expect(put(store, ANNA, 41, { ceilings })).rejects.toMatchObject({
        code: 'too_large',
        detail: expect.stringContaining('100 bytes'),
      });
      const { file_id } = await put(store, ANNA, 40, { ceilings });
      await expect(store.create(ANNA, { ceilings })).rejects.toMatchObject({
        code: 'too_large',
        detail: expect.stringContaining('2 files'),
      });
      await put(store, BEN, 100, { ceilings });
      await store.delete(ANNA, file_id);
      await put(store, ANNA, 40, { ceilings });
    });

    test('a key counts its end users together, whoever it names', async () => {
      const { store } = await start();
      const ceilings = { file_bytes: 100, file_count: 2 };
      const upload = async (owner: string, size: number) => {
        const writer = await store.create(owner, { ceilings, holder: ANNA });
        await writer.write(bytes(size));
        return writer.commit({ filename: 'a' });
      };
      const { file_id } = await upload(`${ANNA}/1`, 60);
      await expect(upload(`${ANNA}/2`, 41)).rejects.toMatchObject({ code: 'too_large' });
      await upload(`${ANNA}/2`, 40);
      await expect(upload(`${ANNA}/3`, 0)).rejects.toMatchObject({ code: 'too_large' });
      expect(await store.usage(ANNA)).toEqual({ bytes: 100, count: 2 });
      expect((await store.list(ANNA, { limit: 10 })).files).toEqual([]);
      await expect(store.stat(`${ANNA}/2`, file_id)).rejects.toMatchObject({ code: 'not_found' });
      await store.delete(`${ANNA}/1`, file_id);
      expect(await store.usage(ANNA)).toEqual({ bytes: 40, count: 1 });
    });

    test('the store has exactly its bytes and its files', async () => {
      const { store } = await start({ maxBytes: 100, maxFiles: 3 });
      await put(store, ANNA, 60);
      await expect(put(store, BEN, 41)).rejects.toMatchObject({ code: 'too_large', detail: /store is full/ });
      await put(store, BEN, 40);
      await put(store, BEN, 0);
      await expect(put(store, BEN, 0)).rejects.toMatchObject({ code: 'too_large', detail: /store is full/ });
    });

    test('parallel uploads never pass them together, however they interleave', async () => {
      const { store } = await start();
      const ceilings = { file_bytes: 1000, file_count: 20 };
      const upload = async (parts: number) => {
        const writer = await store.create(ANNA, { ceilings });
        for (let part = 0; part < parts; part++) {
          await writer.write(bytes(100 / parts));
          const { bytes: used, count } = await store.usage(ANNA);
          expect(used).toBeLessThanOrEqual(1000);
          expect(count).toBeLessThanOrEqual(20);
        }
        return writer.commit({ filename: 'a' });
      };
      const slow = await Promise.allSettled(Array.from({ length: 40 }, () => upload(10)));
      for (const ended of slow) {
        if (ended.status === 'rejected') expect(ended.reason).toMatchObject({ code: 'too_large' });
      }
      await Promise.allSettled(Array.from({ length: 20 }, () => upload(1)));
      expect(await store.usage(ANNA)).toEqual({ bytes: 1000, count: 10 });
      await expect(upload(1)).rejects.toMatchObject({ code: 'too_large' });
    });
  });

  describe(`${name}: time`, () => {
    test('an expired file is gone at the millisecond, and its room is free at the next upload', async () => {
      const { store, clock } = await start({ maxBytes: 100 });
      const { file_id } = await put(store, ANNA, 100);
      clock.ms += LIMITS.ttlMs - 1;
      expect((await store.list(ANNA, { limit: 10 })).files).toHaveLength(1);
      clock.ms += 1;
      await expect(store.stat(ANNA, file_id)).rejects.toMatchObject(notFound(file_id));
      await expect(store.open(ANNA, file_id)).rejects.toMatchObject(notFound(file_id));
      expect((await store.list(ANNA, { limit: 10 })).files).toEqual([]);
      await put(store, BEN, 100);
      expect(await store.usage(ANNA)).toEqual({ bytes: 0, count: 0 });
    });

    test('a file that was stored while the clock was ahead keeps no other from going', async () => {
      const { store, sweep, clock } = await start({ maxBytes: 100 });
      clock.ms += 1_000_000_000;
      const ahead = await put(store, ANNA, 50);
      clock.ms -= 1_000_000_000;
      await put(store, ANNA, 50);
      clock.ms += LIMITS.ttlMs;
      await put(store, ANNA, 50);
      clock.ms += LIMITS.ttlMs;
      expect(await sweep()).toBe(1);
      expect((await store.list(ANNA, { limit: 10 })).files).toEqual([ahead]);
    });

    test('the sweeper takes what has expired and nothing else', async () => {
      const { store, sweep, clock } = await start();
      await put(store, ANNA, 1);
      clock.ms += 1000;
      const young = await put(store, ANNA, 2);
      clock.ms += LIMITS.ttlMs - 1000;
      expect(await sweep()).toBe(1);
      expect(await sweep()).toBe(0);
      expect((await store.list(ANNA, { limit: 10 })).files).toEqual([young]);
    });
  });

  describe(`${name}: lists`, () => {
    test('give every file once, oldest first, page by page, while others come and go', async () => {
      const { store, clock } = await start();
      const ids: string[] = [];
      for (let index = 0; index < 7; index++) {
        if (index % 3 === 0) clock.ms += 1;
        ids.push((await put(store, ANNA, 1)).file_id);
      }
      const seen: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await store.list(ANNA, { limit: 2, cursor });
        expect(page.files.length).toBeLessThanOrEqual(2);
        seen.push(...page.files.map(({ file_id }) => file_id));
        if (seen.length === 2) await store.delete(ANNA, seen[1] as string);
        cursor = page.next_cursor ?? undefined;
      } while (cursor !== undefined);
      expect(new Set(seen)).toEqual(new Set(ids));
      expect(seen).toHaveLength(7);
    });

    test('end without a cursor exactly at the limit', async () => {
      const { store } = await start();
      await put(store, ANNA, 1);
      await put(store, ANNA, 1);
      expect((await store.list(ANNA, { limit: 2 })).next_cursor).toBeNull();
      expect((await store.list(ANNA, { limit: 1 })).next_cursor).not.toBeNull();
    });

    test.for(['', 'x', '1_2', "1' or 1=1", `1e400_${GONE}`])('refuse the cursor %j', async (cursor) => {
      const { store } = await start();
      await expect(store.list(ANNA, { limit: 1, cursor })).rejects.toMatchObject({ code: 'invalid_request' });
    });
  });
}
