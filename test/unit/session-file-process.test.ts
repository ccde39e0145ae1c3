import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { serveFiles } from '../fakes/file-process.ts';
import { PYTHONS } from '../fakes/runner-process.ts';

describe.each(PYTHONS)('the process behind a request about files (%s)', (python) => {
  let workspace = '';
  beforeEach(() => {
    workspace = mkdtempSync(join(tmpdir(), 'podgate-files-'));
  });
  afterEach(() => rmSync(workspace, { recursive: true, force: true }));

  const serve = (asked: object, before?: string, input?: Uint8Array<ArrayBuffer>) =>
    serveFiles(python, workspace, asked, before, input);

  const READ = { op: 'read', path: 'f', first: 0, last: null };
  const BROKEN_READ = `
open("f", "w").write("x" * 100000)
whole = os.pread
def pread(fd, count, at):
    if at: raise OSError(5, "Input/output error")
    return whole(fd, count, at)
os.pread = pread`;

  test('says by its exit status that a file could not be read to its end', () => {
    const { status, head, bytes } = serve(READ, BROKEN_READ);
    expect([status, head.ok.size, bytes]).toEqual([1, 100_000, 'x'.repeat(65_536)]);
  });

  test.each(['OSError(24, "Too many open files")', 'RecursionError("too deep")'])(
    'says by its exit status that a tree ended early: %s',
    (error) => {
      const broken = `
os.mkdir("d"); os.mkdir("e"); open("d/f", "w").close()
listdir = os.listdir
seen = []
def fail(fd):
    seen.append(fd)
    if len(seen) > 1: raise ${error}
    return listdir(fd)
os.listdir = fail`;
      const { status, head, bytes } = serve({ op: 'pack', path: '' }, broken);
      expect([status, head]).toEqual([1, { ok: {} }]);
      expect(bytes).not.toContain('error');
    },
  );

  test('answers what fails before the facts in words, and ends well', () => {
    const { status, head } = serve(READ);
    expect([status, head]).toEqual([
      0,
      { error: { code: 'not_found', detail: 'No such file or directory' } },
    ]);
  });

  const BLOCK = 512;
  const UNPACK = { op: 'unpack', path: '' };
  const unpack = (archive: Uint8Array<ArrayBuffer>) => serve(UNPACK, '', archive);
  /** Six files of 3,000 bytes by GNU tar: each is a header and six blocks. */
  function archiveOf(...options: string[]) {
    const from = mkdtempSync(join(tmpdir(), 'podgate-tar-'));
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    for (const name of names) writeFileSync(join(from, name), name.repeat(3_000));
    try {
      return execFileSync('tar', [...options, '-cf', '-', ...names], { cwd: from });
    } finally {
      rmSync(from, { recursive: true });
    }
  }
  const AT_THIRD = 2 * 7 * BLOCK;
  const flipped = (archive: Buffer<ArrayBuffer>, at: number) => {
    const damaged = Buffer.from(archive);
    damaged[at] = (damaged[at] as number) ^ 1;
    return damaged;
  };

  test.each([
    ['GNU tar', []],
    ['GNU tar, pax', ['--format=pax']],
    ['GNU tar, ustar', ['--format=ustar']],
    ['GNU tar, v7', ['--format=v7']],
    ['GNU tar, one block a record', ['-b1']],
    ['gzip', ['-z']],
    ['bzip2', ['-j']],
    ['xz', ['-J']],
  ])('unpacks what tools make: %s', (_, options) => {
    expect(unpack(archiveOf(...options)).head).toEqual({ ok: { entries: 6 } });
    expect(readdirSync(workspace)).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
    expect(readFileSync(join(workspace, 'f'), 'utf8')).toBe('f'.repeat(3_000));
  });

  test.each(['USTAR', 'GNU', 'PAX'])('unpacks what Python makes, long names too: %s', (format) => {
    const code = `
import io, sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|gz", format=tarfile.${format}_FORMAT)
for name in ("${'n'.repeat(90)}/${'m'.repeat(90)}", "ü", "empty"):
    info = tarfile.TarInfo(name)
    info.size = 0 if name == "empty" else 1
    out.addfile(info, io.BytesIO(b"x"))
out.close()`;
    expect(unpack(execFileSync(python, ['-c', code])).head).toEqual({ ok: { entries: 3 } });
  });

  test('unpacks an archive of nothing, one whose end is a single block, and what git makes', () => {
    const whole = archiveOf('-b1');
    expect(unpack(Buffer.alloc(20 * BLOCK)).head).toEqual({ ok: { entries: 0 } });
    expect(unpack(whole.subarray(0, -BLOCK)).head).toEqual({ ok: { entries: 6 } });
    const cwd = fileURLToPath(new URL('../..', import.meta.url));
    const tree = execFileSync('git', ['mktree'], { cwd, input: '' }).toString().trim();
    expect(unpack(execFileSync('git', ['archive', tree], { cwd })).head).toEqual({ ok: { entries: 0 } });
  });

  const plain = archiveOf('-b1');
  test.each([
    ['a byte of a later header is another', flipped(plain, AT_THIRD + 3), 2],
    ['a later header is cut', plain.subarray(0, AT_THIRD + 100), 2],
    ['it is cut between two files', plain.subarray(0, AT_THIRD), 2],
    ['it is cut in a file', plain.subarray(0, AT_THIRD + 2 * BLOCK), 2],
    ['its end is missing', plain.subarray(0, -2 * BLOCK), 6],
    [
      'a header is empty',
      Buffer.concat([plain.subarray(0, AT_THIRD), Buffer.alloc(BLOCK), plain.subarray(AT_THIRD + BLOCK)]),
      2,
    ],
    ['a byte behind its end is another', flipped(gzipSync(plain), gzipSync(plain).byteLength - 6), undefined],
    ['gzip is cut by 5 bytes', gzipSync(plain).subarray(0, -5), undefined],
    ['xz is cut by 5 bytes', archiveOf('-J').subarray(0, -5), undefined],
    ['bzip2 is cut by 5 bytes', archiveOf('-j').subarray(0, -5), undefined],
    ['a byte within gzip is another', flipped(gzipSync(plain, { level: 0 }), 10_000), undefined],
    ['there is nothing', new Uint8Array(0), 0],
  ])('refuses an archive that is damaged or cut short: %s', (_, archive, entries) => {
    const { status, head } = unpack(archive);
    expect([status, head.error.code]).toEqual([0, 'bad_archive']);
    expect(head.error.detail).toContain('It is damaged or cut short: ');
    if (entries !== undefined) expect(head.error.detail).toContain(`stays, ${entries} entries.`);
  });

  test('says which compression it cannot read', () => {
    const { head } = serve(UNPACK, 'sys.modules["lzma"] = None', archiveOf('-J'));
    expect(head.error).toEqual({ code: 'bad_archive', detail: "This sandbox's Python reads no lzma." });
  });

  test('leaves no part of a file, and what had its name before', () => {
    writeFileSync(join(workspace, 'c'), 'before');
    unpack(plain.subarray(0, AT_THIRD + 2 * BLOCK));
    expect(readdirSync(workspace)).toEqual(['a', 'b', 'c']);
    expect(readFileSync(join(workspace, 'c'), 'utf8')).toBe('before');
  });

  test.each([
    ['move', { op: 'move', path: 'file', to: 'made/in/file' }, 'rename'],
    ['mkdir', { op: 'mkdir', path: 'made/in/last' }, 'mkdir'],
  ])('leaves no directory of a %s that is refused on its way', (_, asked, call) => {
    writeFileSync(join(workspace, 'file'), 'stays');
    const full = `
whole = os.${call}
def ${call}(path, *rest, **options):
    if path in (b"file", b"last"): raise OSError(28, "No space left on device")
    return whole(path, *rest, **options)
os.${call} = ${call}`;
    expect(serve(asked, full).head.error.code).toBe('no_room');
    expect(readdirSync(workspace)).toEqual(['file']);
    expect(serve(asked).head.ok.name).toBe(asked.op === 'move' ? 'file' : 'last');
  });

  test('takes no directory away that was there before what is refused', () => {
    const there = 'os.makedirs("made/in"); os.mkdir("d"); open("made/in/file", "w").close()';
    const { head } = serve({ op: 'move', path: 'd', to: 'made/in/file' }, there);
    expect(head.error.code).toBe('exists');
    expect(readdirSync(join(workspace, 'made', 'in'))).toEqual(['file']);
  });

  /** A chain of directories, deeper than descriptors and Python's recursion go, with names on both sides of it. */
  const deep = (depth: number) => `
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
os.makedirs("t/zlast"); open("t/zlast/z", "w").close(); open("t/y", "w").close()
at = os.open("t", os.O_RDONLY)
for _ in range(${depth}):
    os.mkdir("d", dir_fd=at)
    deeper = os.open("d", os.O_RDONLY, dir_fd=at)
    os.close(at)
    os.close(os.open("e", os.O_CREAT, dir_fd=deeper))
    at = deeper
os.close(at)`;
  const namesIn = (latin1: string) =>
    execFileSync('tar', ['t'], { input: Buffer.from(latin1, 'latin1'), maxBuffer: 1 << 30 })
      .toString()
      .trim()
      .split('\n');

  test.each([31, 32, 33, 64, 65, 1_200])('packs and deletes a tree %i deep', (depth) => {
    const { status, bytes } = serve({ op: 'pack', path: 't' }, deep(depth));
    expect(status).toBe(0);
    const names = namesIn(bytes);
    expect(names).toHaveLength(depth * 2 + 3);
    expect(names.slice(-3)).toEqual(['y', 'zlast/', 'zlast/z']);
    expect(names).toContain(`${'d/'.repeat(depth)}e`);
    expect(serve({ op: 'delete', path: 't', recursive: true }).head).toEqual({ ok: {} });
    expect(readdirSync(workspace)).toEqual([]);
  });

  test('does not call a tree whole in which it does not find its way back', () => {
    const moving = `${deep(80)}
from podgate_runner import session_walk
leave = session_walk.Place.leave
def moved(self):
    if os.path.exists("t/d/d"): os.rename("t/d/d", "elsewhere")
    return leave(self)
session_walk.Place.leave = moved`;
    expect(serve({ op: 'pack', path: 't' }, moving).status).toBe(1);
  });

  // Root reads what is closed.
  const closing = `
import tarfile
if os.getuid() == 0:
    os.chown(".", 65534, 65534); os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
for name, mode in (("a", 0o000), ("b", 0o400), ("c", 0o300)):
    os.makedirs("t/" + name + "/in")
    open("t/" + name + "/in/file", "w").close()
    os.chmod("t/" + name + "/in/file", 0o000)
    os.chmod("t/" + name, mode)
os.mkfifo("t/pipe")`;
  const modes = () =>
    ['a', 'b', 'c'].map((name) => (statSync(join(workspace, 't', name)).mode & 0o777).toString(8));

  test('packs what its owner has closed, without pipes, and leaves it closed', () => {
    const { status, bytes } = serve({ op: 'pack', path: 't' }, closing);
    expect(status).toBe(0);
    const inside = ['a', 'b', 'c'].flatMap((name) => [`${name}/`, `${name}/in/`, `${name}/in/file`]);
    expect(namesIn(bytes)).toEqual(inside);
    expect(modes()).toEqual(['0', '400', '300']);
    expect(statSync(join(workspace, 't/c/in/file')).mode & 0o777).toBe(0);
  });

  test('leaves closed what its owner has closed where a tree breaks off', () => {
    const failing = `${closing}
from podgate_runner import session_archive
def fail(*_): raise OSError(5, "Input/output error")
session_archive.open_file = fail`;
    expect(serve({ op: 'pack', path: 't' }, failing).status).toBe(1);
    expect(modes()).toEqual(['0', '400', '300']);
  });

  test.each([
    ['list', 't/a', { after: '', limit: 10 }],
    ['list', 't/a/in', { after: '', limit: 10 }],
    ['stat', 't/a/in', {}],
    ['read', 't/a/in/file', { first: 0, last: null }],
    ['pack', 't/a', {}],
    ['mkdir', 't/a/more', {}],
    ['unpack', 't/a', {}],
  ])('opens no path that its owner has closed: %s %s', (op, path, rest) => {
    const { head } = serve({ op, path, ...rest }, closing);
    expect(head.error.code).toBe('no_access');
    expect(modes()).toEqual(['0', '400', '300']);
  });

  test('goes through a directory that its owner may enter and not read', () => {
    const { head } = serve({ op: 'list', path: 't/c/in', after: '', limit: 10 }, closing);
    expect(head.ok.entries).toMatchObject([{ name: 'file' }]);
    expect(modes()).toEqual(['0', '400', '300']);
  });

  test('deletes what its owner has closed', () => {
    const asked = { op: 'delete', path: 't', recursive: true };
    expect(serve(asked, `${closing}\nos.chmod("t", 0)`).head).toEqual({ ok: {} });
  });
});
