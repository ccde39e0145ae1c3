import { execFileSync } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { serveFiles } from '../fakes/file-process.ts';
import { PYTHONS } from '../fakes/runner-process.ts';

type Entry = { name: string; type?: '0' | '1' | '2' | '3' | '5' | '6'; linkname?: string; mode?: number };

const [HARD_LINK, LINK, DEVICE, DIRECTORY, PIPE] = ['1', '2', '3', '5', '6'] as const;
const MTIME = 1_000_000_000;
const TEXT = 'text';

describe.each(PYTHONS)('a tar of a session (%s)', (python) => {
  let base = '';
  let workspace = '';
  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'podgate-tar-'));
    workspace = join(base, 'workspace');
    mkdirSync(workspace);
    mkdirSync(join(base, 'outside'));
    writeFileSync(join(base, 'outside', 'secret'), 'secret');
  });
  afterEach(() => rmSync(base, { recursive: true, force: true }));

  const serve = (asked: object, before?: string, input?: Uint8Array<ArrayBuffer>) =>
    serveFiles(python, workspace, asked, before, input);

  function tarOf(entries: Entry[]): Buffer<ArrayBuffer> {
    const code = `
import io, json, sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
for entry in json.loads(sys.argv[1]):
    info = tarfile.TarInfo(entry["name"])
    info.mtime, info.mode = ${MTIME}, entry.get("mode", 0o644)
    info.type, info.linkname = entry.get("type", "0").encode(), entry.get("linkname", "")
    info.size = len("${TEXT}") if info.isreg() else 0
    out.addfile(info, io.BytesIO(b"${TEXT}") if info.isreg() else None)
out.close()`;
    return execFileSync(python, ['-c', code, JSON.stringify(entries)]) as Buffer<ArrayBuffer>;
  }
  const unpack = (entries: Entry[], path = '') =>
    serve({ op: 'unpack', path }, 'os.umask(0o022)', tarOf(entries)).head;
  const found = (name: string) => lstatSync(join(workspace, name));

  test('gives its files their time and their rights, and no right to be somebody else', () => {
    const modes = [0o644, 0o600, 0o755, 0o4755, 0o2711, 0o1777, 0o000];
    expect(unpack(modes.map((mode) => ({ name: `${mode}`, mode }))).ok).toEqual({ entries: modes.length });
    expect(modes.map((mode) => found(`${mode}`).mode & 0o7777)).toEqual(modes.map((mode) => mode & 0o777));
    expect(found('420').mtimeMs).toBe(MTIME * 1_000);
  });

  test('puts its links in place of what has their names, and makes none to what a link names', () => {
    const entries: Entry[] = [
      { name: 'file' },
      { name: 'link', type: LINK, linkname: '../outside/secret' },
      { name: 'second', type: HARD_LINK, linkname: 'file' },
      { name: 'third', type: HARD_LINK, linkname: 'link' },
    ];
    for (let n = 0; n < 2; n += 1) expect(unpack(entries).ok).toEqual({ entries: 4 });
    expect(found('link').isSymbolicLink()).toBe(true);
    expect(found('second').ino).toBe(found('file').ino);
    expect(found('third').ino).toBe(found('link').ino);
    expect(lstatSync(join(base, 'outside', 'secret')).nlink).toBe(1);
  });

  test('may hold more directories than a process may have open files', () => {
    const directories = Array.from({ length: 100 }, (_, n) => ({ name: `d${n}/e`, type: DIRECTORY }));
    const entries = directories.flatMap((entry) => [entry, { name: `${entry.name}/file` }]);
    const before = 'import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))';
    expect(serve({ op: 'unpack', path: '' }, before, tarOf(entries)).head).toEqual({ ok: { entries: 200 } });
    expect(serve({ op: 'pack', path: '' }, before).status).toBe(0);
  });

  const LEADING_OUT: Entry = { name: 'way', type: LINK, linkname: '../outside' };
  test.each<[string, Entry[]]>([
    ['above it', [{ name: '../outside/new' }]],
    ['above it, by and by', [{ name: 'd', type: DIRECTORY }, { name: 'd/../../outside/new' }]],
    ['at the root', [{ name: '/new' }]],
    ['behind a link', [LEADING_OUT, { name: 'way/new' }]],
    ['behind a link, a directory', [LEADING_OUT, { name: 'way/new', type: DIRECTORY }]],
    ['behind a link, a link', [LEADING_OUT, { name: 'way/new', type: LINK, linkname: 'x' }]],
    [
      'behind a link, as a second name',
      [{ name: 'f' }, LEADING_OUT, { name: 'way/new', type: HARD_LINK, linkname: 'f' }],
    ],
    ['what is behind a link', [LEADING_OUT, { name: 'new', type: HARD_LINK, linkname: 'way/secret' }]],
    ['what is above it', [{ name: 'new', type: HARD_LINK, linkname: '../outside/secret' }]],
    ['a device', [{ name: 'new', type: DEVICE }]],
    ['a pipe', [{ name: 'new', type: PIPE }]],
  ])('is refused where it names %s, and nothing is made', (_name, entries) => {
    expect(unpack(entries).error.code).toMatch(/^(bad_path|bad_archive|not_a_directory|is_a_link)$/);
    expect(readdirSync(join(base, 'outside'))).toEqual(['secret']);
    expect(readdirSync(workspace)).not.toContain('new');
    expect(lstatSync(join(base, 'outside', 'secret')).nlink).toBe(1);
  });

  test('that is refused leaves no folder that was made for it', () => {
    expect(unpack([{ name: '../x' }], 'made/for/it').error.code).toBe('bad_path');
    expect(readdirSync(workspace)).toEqual([]);
    expect(unpack([{ name: 'x' }], 'made/for/it').ok).toEqual({ entries: 1 });
    expect(readFileSync(join(workspace, 'made/for/it/x'), 'utf8')).toBe(TEXT);
  });

  test('has its files with rights, time and links, and nothing of what those name', () => {
    const made = `
os.mkdir("d", 0o711); open("d/f", "w").write("${TEXT}"); os.chmod("d/f", 0o640); os.utime("d/f", (${MTIME}, ${MTIME}))
os.symlink("../outside/secret", "link"); os.symlink("../outside", "way")`;
    const { status, bytes } = serve({ op: 'pack', path: '' }, made);
    expect(status).toBe(0);
    const code = `
import io, sys, tarfile
for info in tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())):
    print(info.name, info.type.decode(), oct(info.mode), int(info.mtime) == ${MTIME}, info.linkname, info.size)`;
    const told = execFileSync(python, ['-c', code], { input: Buffer.from(bytes, 'latin1') }).toString();
    expect(told.trim().split('\n')).toEqual([
      'd 5 0o711 False  0',
      'd/f 0 0o640 True  4',
      'link 2 0o777 False ../outside/secret 0',
      'way 2 0o777 False ../outside 0',
    ]);
  });

  test.each(['link', 'way', 'pipe', 'd'])('is no way to read what is no file: %s', (path) => {
    const made =
      'os.symlink("../outside/secret", "link"); os.symlink("../outside", "way"); os.mkfifo("pipe"); os.mkdir("d")';
    const { status, head, bytes } = serve({ op: 'read', path, first: 0, last: null }, made);
    expect([status, bytes]).toEqual([0, '']);
    expect(head.error.code).toMatch(/^(is_a_link|not_a_file|is_a_directory)$/);
  });
});
