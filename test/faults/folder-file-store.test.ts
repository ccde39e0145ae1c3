import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  type FileHandle,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { FileStore } from '../../gateway/files/file-store.ts';
import { openFolderFileStore } from '../../gateway/node/folder-file-store.ts';

const LIMITS = { maxFileBytes: 10_000_000, maxBytes: 100_000_000, maxFiles: 1_000, ttlMs: 3_600_000 };
const CEILINGS = { file_bytes: null, file_count: null };
const OWNER = 'acme/anna';
const STRANGER = join(fileURLToPath(import.meta.url), '..', '..', 'fakes', 'folder-file-store-writer.ts');

/** Bounds the files that process $1 may have open to $2 until its input ends. */
const LIMIT_OF = `
before=$(prlimit --pid $1 --nofile --noheadings --raw --output SOFT)
prlimit --pid $1 --nofile=$2:
echo; read end
prlimit --pid $1 --nofile=$before:`;

async function makeFolder(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'podgate-files-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function openStore(directory: string, more: object = {}) {
  const store = await openFolderFileStore({ directory, limits: LIMITS, ...more });
  onTestFinished(() => store.close());
  return store;
}

async function put(store: FileStore, content: string, filename = 'a.txt') {
  const writer = await store.create(OWNER, { ceilings: CEILINGS });
  await writer.write(new TextEncoder().encode(content));
  return writer.commit({ filename });
}

async function storedPath(directory: string, id: string): Promise<string> {
  const names = await readdir(directory, { recursive: true });
  const name = names.find((each) => each.endsWith(id));
  if (name === undefined) throw new Error(`${id} is not stored`);
  return join(directory, name);
}

describe('a folder store that starts again', () => {
  test('has every file it had, with its name, time and usage', async () => {
    const directory = await makeFolder();
    const first = await openStore(directory);
    const meta = await put(first, 'hello', 'naïve "name".txt');
    await first.close();
    const second = await openStore(directory);
    expect(await second.stat(OWNER, meta.file_id)).toEqual(meta);
    expect(await second.usage(OWNER)).toEqual({ bytes: 5, count: 1 });
    const { body } = await second.open(OWNER, meta.file_id);
    expect(await new Response(body).text()).toBe('hello');
  });

  test('counts a file where it counted before', async () => {
    const directory = await makeFolder();
    const first = await openStore(directory);
    const writer = await first.create(`${OWNER}/user`, { ceilings: CEILINGS, holder: OWNER });
    await writer.write(new Uint8Array(10));
    await writer.commit({ filename: 'a' });
    await first.close();
    const second = await openStore(directory);
    expect(await second.usage(OWNER)).toEqual({ bytes: 10, count: 1 });
  });

  test('drops what expired while it was away', async () => {
    const directory = await makeFolder();
    const first = await openStore(directory, { now: () => 1_000_000 });
    const { file_id } = await put(first, 'hello');
    await first.close();
    const second = await openStore(directory, { now: () => 1_000_000 + LIMITS.ttlMs });
    await expect(second.stat(OWNER, file_id)).rejects.toMatchObject({ code: 'not_found' });
    expect(await readdir(join(directory, 'owners'))).toEqual([]);
  });

  test('removes what was half written or torn, and nothing that is not its own', async () => {
    const directory = await makeFolder();
    const first = await openStore(directory);
    const whole = await put(first, 'whole');
    const torn = await put(first, 'torn by a power cut');
    const emptied = await put(first, 'emptied');
    const lying = await put(first, 'one byte too many');
    await first.close();
    await truncate(await storedPath(directory, torn.file_id), 9);
    await truncate(await storedPath(directory, emptied.file_id), 0);
    const path = await storedPath(directory, lying.file_id);
    await writeFile(path, Buffer.concat([Buffer.from('x'), await readFile(path)]));
    await writeFile(join(directory, 'incoming', crypto.randomUUID()), 'half');
    await writeFile(join(directory, 'incoming', 'notes.txt'), 'not ours');
    await mkdir(join(directory, 'owners', 'photos'));
    await writeFile(join(directory, 'readme.txt'), 'not ours');
    const second = await openStore(directory);
    const { files } = await second.list(OWNER, { limit: 10 });
    expect(files.map(({ file_id }) => file_id)).toEqual([whole.file_id]);
    expect(await second.usage(OWNER)).toEqual({ bytes: 5, count: 1 });
    expect(await readdir(join(directory, 'incoming'))).toEqual(['notes.txt']);
    expect((await readdir(directory)).sort()).toEqual(['incoming', 'lock.2', 'owners', 'readme.txt']);
    expect(await readdir(join(directory, 'owners'))).toContain('photos');
  });

  test('closes its folders to others, and follows no link to what lies elsewhere', async () => {
    const directory = await makeFolder();
    const first = await openStore(directory);
    const { file_id } = await put(first, 'mine');
    await first.close();
    for (const name of ['incoming', 'owners']) await chmod(join(directory, name), 0o755);
    const second = await openStore(directory);
    const modes = ['incoming', 'owners'].map(
      async (name) => (await stat(join(directory, name))).mode & 0o777,
    );
    expect(await Promise.all(modes)).toEqual([0o700, 0o700]);
    const path = await storedPath(directory, file_id);
    const elsewhere = join(directory, 'elsewhere');
    await writeFile(elsewhere, await readFile(path));
    await rm(path);
    await symlink(elsewhere, path);
    await expect(second.open(OWNER, file_id)).rejects.toMatchObject({ code: 'ELOOP' });
  });

  test('lets go of a folder that it cannot read, and keeps none for an owner without files', async () => {
    const directory = await makeFolder();
    await (await openStore(directory)).close();
    const owner = join(directory, 'owners', 'a'.repeat(64));
    await writeFile(owner, 'no folder');
    await expect(openStore(directory)).rejects.toMatchObject({ code: 'ENOTDIR' });
    await rm(owner);
    await mkdir(owner);
    await openStore(directory);
    expect(await readdir(join(directory, 'owners'))).toEqual([]);
  });

  test('lets files go in the order in which they were stored, whatever their names', async () => {
    const directory = await makeFolder();
    const first = await openStore(directory);
    await first.close();
    let nowMs = 1_000_000;
    const writing = await openStore(directory, { now: () => nowMs });
    const stored: string[] = [];
    for (let index = 0; index < 8; index += 1) {
      nowMs += 1_000;
      stored.push((await put(writing, String(index))).file_id);
    }
    await writing.close();
    const again = await openStore(directory, { now: () => nowMs });
    for (let gone = 1; gone < 8; gone += 1) {
      nowMs = 1_000_000 + LIMITS.ttlMs + gone * 1_000;
      expect(await again.sweep()).toBe(1);
    }
    const { files } = await again.list(OWNER, { limit: 10 });
    expect(files.map(({ file_id }) => file_id)).toEqual(stored.slice(-1));
  });

  test('after being killed in the middle of uploads holds whole files only', {
    timeout: 60_000,
  }, async () => {
    const directory = await makeFolder();
    for (let round = 0; round < 5; round++) {
      const child = spawn(process.execPath, [STRANGER, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
      const lines = createInterface({ input: child.stdout });
      const committed = new Set<string>();
      const enough = Promise.withResolvers<void>();
      lines.on('line', (id) => {
        committed.add(id);
        if (committed.size === 3 + round * 4) enough.resolve();
      });
      await enough.promise;
      child.kill('SIGKILL');
      await once(child, 'exit');
      const store = await openFolderFileStore({ directory, limits: LIMITS });
      const { files } = await store.list(OWNER, { limit: 1_000 });
      const ids = new Set(files.map(({ file_id }) => file_id));
      expect([...committed].filter((id) => !ids.has(id))).toEqual([]);
      for (const { file_id, filename, size_bytes } of files) {
        const { body } = await store.open(OWNER, file_id);
        const content = new Uint8Array(await new Response(body).arrayBuffer());
        expect(content).toHaveLength(size_bytes);
        expect(new Set(content)).toEqual(new Set([Number(filename)]));
      }
      expect(await readdir(join(directory, 'incoming'))).toEqual([]);
      await store.close();
    }
  });
});

describe('a folder store', () => {
  test('lets nobody else read what it keeps', async () => {
    const directory = join(await makeFolder(), 'made');
    const store = await openStore(directory);
    const { file_id } = await put(store, 'secret');
    const path = await storedPath(directory, file_id);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    for (const folder of [
      join(path, '..'),
      join(directory, 'owners'),
      join(directory, 'incoming'),
      directory,
    ]) {
      expect((await stat(folder)).mode & 0o777).toBe(0o700);
    }
    expect(path).not.toContain('anna');
  });

  test('sweeps by itself', async () => {
    const directory = await makeFolder();
    let now = 1_000_000;
    const store = await openStore(directory, { now: () => now, sweepEveryMs: 5 });
    await put(store, 'hello');
    now += LIMITS.ttlMs;
    await expect.poll(() => readdir(join(directory, 'owners'))).toEqual([]);
    expect(await store.usage(OWNER)).toEqual({ bytes: 0, count: 0 });
  });

  test('keeps no descriptor of readers and writers that left', async () => {
    const store = await openStore(await makeFolder());
    const { file_id } = await put(store, 'x'.repeat(300_000));
    const descriptors = async () => (await readdir('/proc/self/fd')).length;
    const before = await descriptors();
    for (let round = 0; round < 20; round++) {
      const { body } = await store.open(OWNER, file_id);
      const started = body.getReader();
      if (round % 2) await started.read();
      await started.cancel();
      const leaving = new AbortController();
      const { body: other } = await store.open(OWNER, file_id, leaving.signal);
      const reader = other.getReader();
      const pending = reader.read();
      leaving.abort();
      await pending.catch(() => {});
      const writer = await store.create(OWNER, { ceilings: CEILINGS });
      await writer.write(new Uint8Array(10));
      await writer.abort();
      if (round % 2)
        await store.open(OWNER, file_id).then(({ body: read }) => new Response(read).arrayBuffer());
    }
    await expect.poll(descriptors).toBeLessThanOrEqual(before);
  });

  test('is asked for again where its process has no descriptor left, which is no fault of its caller', async () => {
    const directory = await makeFolder();
    const store = await openStore(directory);
    const meta = await put(store, 'hello');
    const stuffed: FileHandle[] = [];
    // What is open stays so; nothing more can be, until the limit is as it was.
    const limits = spawn('sh', ['-c', LIMIT_OF, 'sh', String(process.pid), '40'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(limits.stdout, 'data');
    const refused = [];
    try {
      for (let files = 0; files < 100; files += 1) stuffed.push(await open(directory));
    } catch (error) {
      expect(error).toMatchObject({ code: 'EMFILE' });
      refused.push(await put(store, 'more').catch((failure: unknown) => failure));
      refused.push(await store.open(OWNER, meta.file_id).catch((failure: unknown) => failure));
    }
    limits.stdin.end();
    await once(limits, 'exit');
    for (const handle of stuffed) await handle.close();
    const failure = { code: 'at_capacity', status: 503, retryable: true, retryAfterMs: 1_000 };
    expect(refused).toMatchObject([failure, failure]);
    expect(await new Response((await store.open(OWNER, meta.file_id)).body).text()).toBe('hello');
    expect(await store.usage(OWNER)).toEqual({ bytes: 5, count: 1 });
  });

  test('answers for a file that a hand took from the disk', async () => {
    const directory = await makeFolder();
    const store = await openStore(directory);
    const { file_id } = await put(store, 'hello');
    await rm(await storedPath(directory, file_id));
    await expect(store.open(OWNER, file_id)).rejects.toMatchObject({ code: 'not_found' });
    expect(await store.usage(OWNER)).toEqual({ bytes: 0, count: 0 });
  });

  test('takes files and sweeps others while an expired one cannot be removed', async () => {
    const directory = await makeFolder();
    const clock = { ms: 1_000_000 };
    const faults: unknown[] = [];
    const store = await openStore(directory, {
      now: () => clock.ms,
      onFault: (cause: unknown) => faults.push(cause),
    });
    const stuck = await put(store, 'stays');
    const other = await put(store, 'goes');
    const [path, otherPath] = await Promise.all(
      [stuck, other].map(({ file_id }) => storedPath(directory, file_id)),
    );
    // A file that cannot be removed, whoever tries.
    await rm(path ?? '');
    await mkdir(path ?? '');
    clock.ms += LIMITS.ttlMs;
    const fresh = await put(store, 'new');
    expect(await store.sweep()).toBe(1);
    await put(store, 'newer');
    await expect(stat(otherPath ?? '')).rejects.toMatchObject({ code: 'ENOENT' });
    for (const { file_id } of [stuck, other])
      await expect(store.open(OWNER, file_id)).rejects.toMatchObject({ code: 'not_found' });
    expect(await store.usage(OWNER)).toEqual({ bytes: 13, count: 3 });
    expect(await store.stat(OWNER, fresh.file_id)).toEqual(fresh);
    expect(await store.sweep()).toBe(0);
    expect(faults.map(String)).toEqual([expect.stringContaining('cannot be removed: 1, the first: ')]);
    await rm(path ?? '', { recursive: true });
    expect(await store.sweep()).toBe(1);
    expect(await store.usage(OWNER)).toEqual({ bytes: 8, count: 2 });
  });

  test('ends a download whose file shrank with an error, never short', async () => {
    const directory = await makeFolder();
    const store = await openStore(directory);
    const { file_id } = await put(store, 'x'.repeat(200_000));
    const { body } = await store.open(OWNER, file_id);
    await truncate(await storedPath(directory, file_id), 100_000);
    await expect(new Response(body).arrayBuffer()).rejects.toThrow();
  });

  test('refuses after close, and aborts writers that were open', async () => {
    const directory = await makeFolder();
    const store = await openStore(directory);
    const writer = await store.create(OWNER, { ceilings: CEILINGS });
    await writer.write(new Uint8Array(10));
    await store.close();
    await store.close();
    await expect(writer.write(new Uint8Array(1))).rejects.toMatchObject({ code: 'cancelled' });
    await expect(store.list(OWNER, { limit: 1 })).rejects.toMatchObject({ code: 'draining' });
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    await openStore(directory);
  });

  test('aborts a writer that was just being opened when it closed', async () => {
    const directory = await makeFolder();
    const store = await openStore(directory);
    const opening = store.create(OWNER, { ceilings: CEILINGS });
    await store.close();
    const writer = await opening;
    await expect(writer.commit({ filename: 'a' })).rejects.toMatchObject({ code: 'cancelled' });
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    expect(await readdir(join(directory, 'owners'))).toEqual([]);
  });
});

describe('the lock of a folder store', () => {
  const holder = (changes: object) => ({
    token: 't',
    pid: 1,
    start: '1',
    space: 'another machine',
    ...changes,
  });
  const writeLock = (directory: string, content: unknown) =>
    writeFile(join(directory, 'lock.1'), typeof content === 'string' ? content : JSON.stringify(content));

  test('keeps a second store out of the folder, in this process and in another', async () => {
    const directory = await makeFolder();
    const store = await openStore(directory);
    await expect(openStore(directory)).rejects.toThrow(/in use by process \d+/);
    await store.close();
    const child = spawn(process.execPath, [STRANGER, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(createInterface({ input: child.stdout }), 'line');
    await expect(openStore(directory)).rejects.toThrow(`in use by process ${child.pid}`);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await openStore(directory);
  });

  test('of one who wins a race against many leaves the others out', async () => {
    const directory = await makeFolder();
    await writeLock(directory, '{"torn');
    const opened = await Promise.allSettled(Array.from({ length: 8 }, () => openStore(directory)));
    expect(opened.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  test('is not had by one who slept since it looked, while others came and went', async () => {
    const directory = await makeFolder();
    // A lock that is read only once something is written: whoever looked at it sleeps until then.
    const seen = join(directory, 'lock.1');
    await once(spawn('mkfifo', [seen]), 'exit');
    const sleeps = openStore(directory);
    const wake = await open(seen, 'w');
    await writeFile(join(directory, 'lock.2'), '');
    await openStore(directory);
    await wake.close();
    await expect(sleeps).rejects.toThrow(`in use by process ${process.pid}`);
    expect((await readdir(directory)).sort()).toEqual(['incoming', 'lock.3', 'owners']);
  });

  test('of a dead process whose PID another has now does not count', async () => {
    const directory = await makeFolder();
    const store = await openStore(directory);
    const { space } = JSON.parse(await readFile(join(directory, 'lock.1'), 'utf8'));
    await store.close();
    await writeLock(directory, holder({ pid: process.pid, start: '1', space }));
    await openStore(directory);
  });

  test('of another machine counts while it beats and no longer', async () => {
    const directory = await makeFolder();
    await writeLock(directory, holder({}));
    await expect(openStore(directory)).rejects.toThrow('process 1 of another machine or container');
    const old = new Date(Date.now() - 16_000);
    await utimes(join(directory, 'lock.1'), old, old);
    await openStore(directory);
  });

  test('leaves one small file in the folder, however often it changed hands or was asked for in vain', async () => {
    const directory = await makeFolder();
    for (let opened = 1; opened <= 3; opened += 1) {
      const store = await openStore(directory);
      await expect(openStore(directory)).rejects.toThrow('in use');
      await store.close();
      expect((await readdir(directory)).sort()).toEqual(['incoming', `lock.${opened}`, 'owners']);
    }
  });

  test('is shown to be alive, so that nobody elsewhere takes it for left, for as long as the store is open', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const directory = await makeFolder();
    const store = await openStore(directory);
    const lock = join(directory, 'lock.1');
    const old = new Date(Date.now() - 60_000);
    const age = async () => Date.now() - (await stat(lock)).mtimeMs;
    for (let beat = 0; beat < 2; beat += 1) {
      await utimes(lock, old, old);
      expect(await age()).toBeGreaterThan(50_000);
      vi.advanceTimersByTime(5_000);
      await expect.poll(age).toBeLessThan(50_000);
    }
    await store.close();
    expect((await stat(lock)).size).toBe(0);
  });

  test('that another process took away stops the store', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const directory = await makeFolder();
    const store = await openStore(directory);
    const writer = await store.create(OWNER, { ceilings: CEILINGS });
    await writeLock(directory, holder({}));
    vi.advanceTimersByTime(5_000);
    await expect.poll(() => store.list(OWNER, { limit: 1 }).catch(({ code }) => code)).toBe('internal');
    await expect(writer.commit({ filename: 'a' })).rejects.toMatchObject({ code: 'cancelled' });
    expect(await readdir(join(directory, 'owners'))).toEqual([]);
    await store.close();
    await expect(openStore(directory)).rejects.toThrow('process 1 of another machine');
  });
});
