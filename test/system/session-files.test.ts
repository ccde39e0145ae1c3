import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BashResponse, SessionResponse, WorkspaceEntry } from '../../shared/session-api.ts';
import { describeStack } from './suite.ts';

type Listed = { entries: WorkspaceEntry[]; next_cursor: string | null };

const TEMPLATES = [
  {
    name: 'default',
    languages: ['python', 'bash'] as ('python' | 'bash')[],
    pool: { min: 1, max: 3 },
    resources: { cpu_seconds: 20, timeout_ms: 30_000 },
  },
];

describeStack('files of a session', { templates: TEMPLATES }, (stack) => {
  let dir = '';
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'podgate-tree-'));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  const open = async (body: object = {}): Promise<string> => {
    const response = await stack().post('/v1/sessions', body);
    expect(response.status, await response.clone().text()).toBe(201);
    return ((await response.json()) as SessionResponse).session_id;
  };
  const bash = async (id: string, cmd: string) => {
    const response = await stack().post(`/v1/sessions/${id}/bash`, { cmd });
    expect(response.status, await response.clone().text()).toBe(200);
    return (await response.json()) as BashResponse;
  };
  const at = (id: string, rest: string, init: RequestInit = {}) =>
    stack().fetch(`/v1/sessions/${id}/${rest}`, init);
  const put = (id: string, path: string, body: string | Uint8Array<ArrayBuffer>) =>
    at(id, `files?path=${encodeURIComponent(path)}`, { method: 'PUT', body });
  const codeOf = async (response: Response) => [
    response.status,
    ((await response.json()) as { code: string }).code,
  ];
  const end = async (id: string) => {
    const { status } = await stack().fetch(`/v1/sessions/${id}`, { method: 'DELETE' });
    expect(status).toBe(204);
  };

  test('are written, read whole and in parts, listed, moved and deleted', async () => {
    const id = await open();
    const written = await put(
      id,
      'a/b ü.bin',
      new Uint8Array(300_000).map((_, index) => index % 251),
    );
    expect(await written.json()).toMatchObject({ name: 'b ü.bin', type: 'file', size: 300_000 });
    const path = `files?path=${encodeURIComponent('a/b ü.bin')}`;
    const whole = await at(id, path);
    expect([whole.status, whole.headers.get('content-length')]).toEqual([200, '300000']);
    const bytes = new Uint8Array(await whole.arrayBuffer());
    expect(bytes.every((byte, index) => byte === index % 251)).toBe(true);
    for (const [range, from, to] of [
      ['bytes=10-19', 10, 19],
      ['bytes=299990-', 299_990, 299_999],
      ['bytes=-5', 299_995, 299_999],
      ['bytes=299999-400000', 299_999, 299_999],
    ] as const) {
      const part = await at(id, path, { headers: { range } });
      expect([part.status, part.headers.get('content-range')]).toEqual([206, `bytes ${from}-${to}/300000`]);
      expect(new Uint8Array(await part.arrayBuffer())).toEqual(bytes.slice(from, to + 1));
    }
    for (const range of ['bytes=300000-', 'bytes=-0']) {
      const beyond = await at(id, path, { headers: { range } });
      expect(beyond.headers.get('content-range')).toBe('bytes */300000');
      expect(await codeOf(beyond)).toEqual([416, 'range_not_satisfiable']);
    }
    const resumed = await at(id, path, { headers: { range: 'bytes=10-19', 'if-range': '"other"' } });
    expect([resumed.status, (await resumed.arrayBuffer()).byteLength]).toEqual([200, 300_000]);
    await put(id, 'empty', '');
    for (const headers of [{}, { range: 'bytes=0-' }, { range: 'bytes=-5' }] as Record<string, string>[]) {
      const { status, headers: given, body } = await at(id, 'files?path=empty', { headers });
      expect([status, given.get('content-range'), await new Response(body).text()]).toEqual([200, null, '']);
    }
    const post = (rest: string, body: object) => stack().post(`/v1/sessions/${id}/files/${rest}`, body);
    expect((await post('mkdir', { path: 'd/e' })).status).toBe(200);
    expect((await post('mkdir', { path: 'd/e' })).status).toBe(200);
    expect((await post('move', { from: 'empty', to: 'd/e/moved' })).status).toBe(200);
    const list = async (query: string) => (await (await at(id, `files/list?${query}`)).json()) as Listed;
    expect((await list('')).entries.map(({ name, type }) => `${name} ${type}`)).toEqual([
      'a directory',
      'd directory',
    ]);
    expect(await list('limit=1')).toMatchObject({ entries: [{ name: 'a' }], next_cursor: 'a' });
    expect(await list('limit=1&cursor=a')).toMatchObject({ entries: [{ name: 'd' }], next_cursor: null });
    expect((await list('path=d/e')).entries).toMatchObject([{ name: 'moved', size: 0 }]);
    const remove = (query: string) => at(id, `files?${query}`, { method: 'DELETE' });
    expect(await codeOf(await remove('path=d'))).toEqual([409, 'conflict']);
    expect((await remove('path=d&recursive=true')).status).toBe(204);
    expect(await codeOf(await remove('path=d'))).toEqual([404, 'not_found']);
    expect((await bash(id, 'find . | sort')).stdout).toBe('.\n./a\n./a/b ü.bin\n');
    await end(id);
  });

  test('are listed page by page, each once, whatever bytes their names are of', async () => {
    const id = await open();
    const long = `${'\\xff'.repeat(255)}`;
    const names = `[b"\\xfe", b"\\xff", b"a\\x80", b"a\\xc3\\xa9", b'q"\\n', b"${long}", b"z"]`;
    await bash(id, `python3 - <<'END'\nfor name in ${names}: open(name, "w").close()\nEND`);
    const listed: string[] = [];
    for (let cursor: string | null = ''; cursor !== null && listed.length <= 7; ) {
      const page = await at(id, `files/list?limit=1&cursor=${encodeURIComponent(cursor)}`);
      expect(page.status).toBe(200);
      const { entries, next_cursor } = (await page.json()) as Listed;
      listed.push(...entries.map(({ name }) => name));
      cursor = next_cursor;
    }
    const unreadable = '\ufffd';
    expect(listed).toEqual([
      ...[`a${unreadable}`, 'aé', 'q"\n', 'z', unreadable, unreadable, unreadable.repeat(255)],
    ]);
    for (const cursor of ['"', '\\', '\\ud800', '\n'])
      expect(await codeOf(await at(id, `files/list?cursor=${encodeURIComponent(cursor)}`))).toEqual([
        422,
        'invalid_request',
      ]);
    await end(id);
  });

  test('are never outside the workspace, whatever links the user made', async () => {
    const id = await open();
    await bash(
      id,
      'mkdir in; echo secret > /tmp/secret; ln -s /tmp/secret file; ln -s /tmp dir; ln -s ../../tmp in/up; mkfifo pipe; ln -s . here',
    );
    for (const path of ['file', 'dir/secret', 'in/up/secret', 'here/file', 'pipe']) {
      const read = await at(id, `files?path=${path}`);
      expect([path, read.status]).toEqual([path, 409]);
    }
    for (const path of ['/tmp/secret', '../tmp/secret', 'in/../../tmp/secret', ''])
      expect((await at(id, `files?path=${encodeURIComponent(path)}`)).status).toBe(422);
    expect((await at(id, 'files/list?path=dir')).status).toBe(409);
    expect(await codeOf(await put(id, 'dir/new', 'x'))).toEqual([409, 'conflict']);
    expect((await stack().post(`/v1/sessions/${id}/files/move`, { from: 'in', to: 'dir/in' })).status).toBe(
      409,
    );
    expect((await at(id, 'files?path=dir/secret', { method: 'DELETE' })).status).toBe(409);
    // In place of a link itself, not of what it names.
    expect((await put(id, 'file', 'mine')).status).toBe(200);
    expect((await at(id, 'files?path=dir&recursive=true', { method: 'DELETE' })).status).toBe(204);
    expect((await bash(id, 'cat /tmp/secret file; ls /tmp')).stdout).toBe('secret\nminesecret\n');
    expect(await (await at(id, 'files/stat?path=in/up')).json()).toMatchObject({
      type: 'link',
      target: '../../tmp',
    });
    await end(id);
  });

  test('say which of two paths stands in the way of a move', async () => {
    const id = await open();
    await bash(id, 'mkdir d t full; echo > file; echo > full/x; ln -s /tmp t/link; echo > t/plain');
    const move = async (from: string, to: string) => {
      const response = await stack().post(`/v1/sessions/${id}/files/move`, { from, to });
      return [response.status, ((await response.json()) as { detail: string }).detail];
    };
    for (const [from, to, detail] of [
      ['file', 't/link/x', "'t/link/x', or what leads to it, is no directory."],
      ['file', 't/plain/x', "'t/plain/x', or what leads to it, is no directory."],
      ['d', 'file', "'file' exists already."],
      ['file', 'd', "'d' exists already."],
      ['d', 'full', "'full' exists already."],
      ['d', 'd/in/it', "'d' cannot be moved into itself."],
    ] as const)
      expect(await move(from, to)).toEqual([409, detail]);
    expect(await move('none', 'd/x/y')).toEqual([404, "There is no 'none' in the workspace."]);
    expect((await bash(id, 'find d')).stdout).toBe('d\n');
    await end(id);
  });

  test('refuse archives that lead outside, and what is none', async () => {
    const id = await open();
    const tar = (script: string) =>
      execFileSync('python3', [
        '-c',
        `import io, sys, tarfile\nout = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")\n${script}\nout.close()`,
      ]);
    const unpack = (body: Uint8Array<ArrayBuffer>) => at(id, 'tree', { method: 'PUT', body });
    const file = (name: string) =>
      `i = tarfile.TarInfo(${JSON.stringify(name)}); i.size = 1; out.addfile(i, io.BytesIO(b"x"))`;
    const link = (name: string, target: string) =>
      `i = tarfile.TarInfo("${name}"); i.type = tarfile.SYMTYPE; i.linkname = "${target}"; out.addfile(i)`;
    for (const script of [
      file('../out'),
      file('/tmp/out'),
      file('a/../../out'),
      `${link('d', '/tmp')}\n${file('d/out')}`,
      'i = tarfile.TarInfo("h"); i.type = tarfile.LNKTYPE; i.linkname = "/etc/passwd"; out.addfile(i)',
      'i = tarfile.TarInfo("p"); i.type = tarfile.FIFOTYPE; out.addfile(i)',
    ])
      expect([script, (await unpack(new Uint8Array(tar(script)))).status >= 400]).toEqual([script, true]);
    const detail = async (script: string) =>
      ((await (await unpack(new Uint8Array(tar(script)))).json()) as { detail: string }).detail;
    expect(await detail(file('a/../../o$%t'))).toBe("The path 'a/../../o$%t' contains '..'.");
    expect(await detail(`${link('$d', '/tmp')}\n${file('$d/out')}`)).toContain("'$d/out', or what leads");
    expect(await detail(`${file('in/file')}\n${file('in')}`)).toBe("'in' is a directory.");
    const cut = await unpack(new Uint8Array(tar(file('a'))).slice(0, 700));
    expect([cut.status, await cut.json()]).toMatchObject([
      422,
      { code: 'invalid_request', detail: expect.stringContaining('It is damaged or cut short: ') },
    ]);
    expect(await codeOf(await unpack(new TextEncoder().encode('no tar at all')))).toEqual([
      422,
      'invalid_request',
    ]);
    expect((await bash(id, 'ls /tmp; ls -A /')).stdout).not.toContain('out');
    await end(id);
  });

  test.each(['files', 'tree'])(
    'that shrink while they are read break the answer off: GET …/%s',
    async (of) => {
      const id = await open();
      await bash(id, 'mkdir d; truncate -s 40M d/large; echo whole > d/later');
      const answer = await at(id, of === 'tree' ? 'tree?path=d' : 'files?path=d/large');
      expect(answer.status).toBe(200);
      const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
      await reader.read();
      await bash(id, 'truncate -s 0 d/large');
      const rest = async () => {
        while (!(await reader.read()).done);
      };
      await expect(rest()).rejects.toThrow();
      await end(id);
    },
  );

  test('are packed and deleted however deep they lie', async () => {
    const id = await open();
    await bash(id, 'mkdir -p t/zlast; touch t/zlast/z t/y; cd t; for i in {1..300}; do mkdir d; cd d; done');
    const tar = new Uint8Array(await (await at(id, 'tree?path=t')).arrayBuffer());
    const names = execFileSync('tar', ['t'], { input: tar }).toString().trim().split('\n');
    expect([names.length, ...names.slice(-3)]).toEqual([303, 'y', 'zlast/', 'zlast/z']);
    expect((await at(id, 'files?path=t&recursive=true', { method: 'DELETE' })).status).toBe(204);
    expect((await bash(id, 'ls -A')).stdout).toBe('');
    await end(id);
  });

  test('are the same through the client', async () => {
    await using session = await stack().podgate.sessions.create();
    const { files } = session;
    expect(await files.write('a/b.txt', 'hello')).toMatchObject({ name: 'b.txt', size: 5 });
    const text = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => new Response(stream).text();
    expect(await text(await files.read('a/b.txt'))).toBe('hello');
    expect(await text(await files.read('a/b.txt', { first: 1, last: 2 }))).toBe('el');
    await files.mkdir('c');
    await files.move('a/b.txt', 'c/d.txt');
    expect((await files.list('c')).entries.map(({ name }) => name)).toEqual(['d.txt']);
    expect(await files.stat('c/d.txt')).toMatchObject({ type: 'file', size: 5 });
    const tar = await new Response(await files.pack('c')).blob();
    expect(await files.unpack(tar, 'copy')).toEqual({ entries: 1 });
    await files.delete('c', { recursive: true });
    expect((await session.bash('find . -type f; cat copy/d.txt')).stdout).toBe('./copy/d.txt\nhello');
    await expect(files.read('c/d.txt')).rejects.toMatchObject({ status: 404, code: 'not_found' });
  });

  test('are many at once through the client, whatever else the session does', async () => {
    await using session = await stack().podgate.sessions.create();
    const { files } = session;
    const running = await session.spawn('sleep 100');
    const names = Array.from({ length: 60 }, (_, index) => `many/${index}`);
    await Promise.all(names.map((name) => files.write(name, name)));
    const read = async (name: string) => new Response(await files.read(name)).text();
    expect(await Promise.all(names.map(read))).toEqual(names);
    // Read by nobody before the last of them has begun.
    const streams = await Promise.all(names.slice(0, 6).map((name) => files.read(name)));
    const said = await Promise.all(streams.map((stream) => new Response(stream).text()));
    expect(said).toEqual(names.slice(0, 6));
    await running.signal('SIGKILL');
  });

  test('of another principal are not found', async () => {
    const id = await open();
    const authorization = `Bearer ${await stack().key()}`;
    for (const [path, method] of [
      ['files?path=a', 'GET'],
      ['files?path=a', 'PUT'],
      ['files?path=a', 'DELETE'],
      ['files/list', 'GET'],
      ['tree', 'GET'],
      ['tree', 'PUT'],
    ] as const) {
      const init = { method, headers: { authorization }, ...(method === 'PUT' && { body: 'x' }) };
      expect([path, (await at(id, path, init)).status]).toEqual([path, 404]);
    }
    await end(id);
  });

  test('that fill the workspace are refused with a sentence, and it goes on', async () => {
    const id = await open();
    const full = await put(id, 'large', new Uint8Array(80 << 20));
    expect([full.status, await full.json()]).toMatchObject([413, { code: 'too_large' }]);
    expect((await bash(id, 'ls -A')).stdout).toBe('');
    await bash(id, 'head -c 60M /dev/zero > most; echo before > rest');
    const rest = await put(id, 'rest', new Uint8Array(10 << 20));
    expect([rest.status, await rest.json()]).toMatchObject([
      413,
      { code: 'too_large', detail: 'The workspace has no room for rest.' },
    ]);
    expect((await bash(id, 'ls -A; cat rest')).stdout).toBe('most\nrest\nbefore\n');
    const stdin = 'x'.repeat(10 << 20);
    const fed = await stack().post(`/v1/sessions/${id}/bash`, { cmd: 'wc -c', stdin });
    expect([fed.status, await fed.json()]).toMatchObject([
      422,
      { code: 'stage_failed', detail: 'The workspace has no room for stdin.' },
    ]);
    expect((await bash(id, 'rm -f most rest; echo ok')).stdout).toBe('ok\n');
    await end(id);
  });

  test('are read to their end before they are refused: who sends first has the answer and no broken pipe', async () => {
    const id = await open();
    const port = Number(new URL(stack().url).port);
    for (const path of ['files?path=large', 'tree']) {
      const socket = connect(port, '127.0.0.1');
      socket.write(
        `PUT /v1/sessions/${id}/${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n` +
          `Authorization: Bearer ${stack().ownKey}\r\nContent-Length: ${80 << 20}\r\n\r\n`,
      );
      await pipeline(Readable.from(Array(80).fill(Buffer.alloc(1 << 20))), socket, { end: false });
      expect(await text(socket)).toMatch(/^HTTP\/1\.1 413 /);
    }
    await end(id);
  });

  test('whose writing is broken off are as they were, and nothing lies beside them', async () => {
    const id = await open();
    await bash(id, 'echo before > file');
    const leaving = new AbortController();
    const body = new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(1_000)) });
    const written = at(id, 'files?path=file', {
      method: 'PUT',
      headers: { 'content-length': '2000' },
      body,
      duplex: 'half',
      signal: leaving.signal,
    } as RequestInit);
    const look = async () => (await bash(id, 'ls -A; cat file')).stdout;
    await expect.poll(look).toMatch(/^\.podgate-part-\S+\nfile\nbefore\n$/);
    leaving.abort();
    await expect(written).rejects.toThrow();
    await expect.poll(look).toBe('file\nbefore\n');
    await end(id);
  });

  test('that are refused or broken off leave no folder that was made for them, and every other', async () => {
    const id = await open();
    await bash(id, 'mkdir kept; head -c 60M /dev/zero > most');
    for (const path of ['a/b/rest', 'kept/c/rest'])
      expect(await codeOf(await put(id, path, new Uint8Array(10 << 20)))).toEqual([413, 'too_large']);
    await bash(id, 'rm most');
    for (const path of ['d/e', 'kept/f']) {
      const none = { method: 'PUT', body: 'no tar at all' };
      expect(await codeOf(await at(id, `tree?path=${path}`, none))).toEqual([422, 'invalid_request']);
    }
    const begin = (signal: AbortSignal) => {
      const { readable, writable } = new TransformStream<Uint8Array>();
      const writer = writable.getWriter();
      void writer.write(new Uint8Array(1_000)).catch(() => {});
      const init = { method: 'PUT', headers: { 'content-length': '2000' }, body: readable, duplex: 'half' };
      return { writer, written: at(id, 'files?path=g/h/file', { ...init, signal } as RequestInit) };
    };
    const look = async () => (await bash(id, 'find . -mindepth 1 | sort')).stdout;
    const leaving = new AbortController();
    const broken = begin(leaving.signal);
    await expect.poll(look).toContain('/.podgate-part-');
    leaving.abort();
    await expect(broken.written).rejects.toThrow();
    await expect.poll(look).toBe('./kept\n');
    const robbed = begin(new AbortController().signal);
    await expect.poll(look).toContain('/.podgate-part-');
    await bash(id, 'rm .podgate-part-*');
    await robbed.writer.write(new Uint8Array(1_000));
    await robbed.writer.close();
    expect(await codeOf(await robbed.written)).toEqual([409, 'conflict']);
    expect(await look()).toBe('./kept\n');
    await end(id);
  });

  test('bear the time of their writing: what was built before is older', async () => {
    const before = Math.floor(Date.now() / 1000);
    const id = await open({ files: [{ path: 'given', content: '' }] });
    await put(id, 'main.c', 'changed');
    const newer = 'for file in given main.c; do [ $file -nt main.o ] && echo $file; done';
    const { stdout } = await bash(id, `touch -d @${before} main.o; ${newer}`);
    expect(stdout).toBe('given\nmain.c\n');
    await end(id);
  });

  test('replaced within a second are no longer those that byte code was made of', async () => {
    const id = await open();
    const seen: string[] = [];
    for (const value of '123') {
      await put(id, 'known.py', `value = ${value}`);
      seen.push((await bash(id, 'python3 -c "import known; print(known.value)"')).stdout);
    }
    expect(seen).toEqual(['1\n', '2\n', '3\n']);
    expect((await bash(id, 'ls __pycache__ | wc -l')).stdout).toBe('1\n');
    await end(id);
  });

  test('are written where nothing is in the way, also under the names of an execution’s code', async () => {
    const id = await open();
    await bash(id, 'mkdir folder; echo x > file');
    for (const path of ['folder', 'file/below'])
      expect([path, await codeOf(await put(id, path, 'x'))]).toEqual([path, [409, 'conflict']]);
    for (const name of ['__main__.py', '__main__.sh', '__main__.js'])
      expect([name, (await put(id, name, 'mine\n')).status]).toEqual([name, 200]);
    expect((await bash(id, 'cat __main__.*')).stdout).toBe('mine\nmine\nmine\n');
    const ran = await stack().post(`/v1/sessions/${id}/execute`, { code: 'open("__main__.py").read()' });
    expect(await ran.json()).toMatchObject({ stdout: "'mine\\n'\n" });
    expect((await bash(id, 'cat __main__.*')).stdout).toBe('mine\nmine\nmine\n');
    await end(id);
  });

  test('are not written where the user has closed what leads there, which stays closed', async () => {
    const id = await open();
    await bash(id, 'mkdir -p a/b c; chmod 0 a/b; chmod 555 c');
    for (const path of ['a/b/x', 'a/b/d/x', 'c/x', 'c/d/x'])
      expect([path, await codeOf(await put(id, path, 'x'))]).toEqual([path, [409, 'conflict']]);
    await bash(id, 'chmod 0 a');
    expect(await codeOf(await put(id, 'a/x', 'x'))).toEqual([409, 'conflict']);
    const ran = await stack().post(`/v1/sessions/${id}/execute`, {
      code: '',
      files: [{ path: 'a/x', content: 'x' }],
    });
    expect(await codeOf(ran)).toEqual([422, 'stage_failed']);
    const modes = 'stat -c %a a c; chmod 700 a; stat -c %a a/b; chmod 700 a/b; ls -A a a/b c';
    expect((await bash(id, modes)).stdout).toBe('0\n555\n0\na:\nb\n\na/b:\n\nc:\n');
    await end(id);
  });

  test('make a coding agent’s day: a repository in, tests, an edit, a commit, the result out', async () => {
    const repo = join(dir, 'repo');
    mkdirSync(join(repo, 'src'), { recursive: true });
    writeFileSync(join(repo, 'src', 'add.py'), 'def add(a, b):\n    return a - b\n');
    writeFileSync(
      join(repo, 'test_add.py'),
      'import unittest\nfrom src.add import add\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(add(2, 3), 5)\n',
    );
    execFileSync('tar', ['czf', join(dir, 'repo.tar.gz'), '-C', dir, 'repo']);
    const id = await open({ ttl_seconds: 600 });
    const unpacked = await at(id, 'tree', {
      method: 'PUT',
      body: new Uint8Array(readFileSync(join(dir, 'repo.tar.gz'))),
    });
    expect(await unpacked.json()).toEqual({ entries: 4 });
    const tests = () => bash(id, 'cd repo && python3 -m unittest -q 2>&1');
    expect(await tests()).toMatchObject({ exit_code: 1, stdout: expect.stringContaining('FAILED') });
    await put(id, 'repo/src/add.py', 'def add(a, b):\n    return a + b\n');
    expect(await tests()).toMatchObject({ exit_code: 0, stdout: expect.stringContaining('OK') });
    const commit = await bash(
      id,
      'cd repo && rm -rf src/__pycache__ __pycache__ && git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm "Add" && git log --oneline',
    );
    expect(commit).toMatchObject({ exit_code: 0, stdout: expect.stringMatching(/^[0-9a-f]{7} Add\n$/) });
    const taken = await at(id, 'tree?path=repo');
    expect(taken.headers.get('content-type')).toBe('application/x-tar');
    writeFileSync(join(dir, 'out.tar'), new Uint8Array(await taken.arrayBuffer()));
    mkdirSync(join(dir, 'out'));
    execFileSync('tar', ['xf', join(dir, 'out.tar'), '-C', join(dir, 'out')]);
    const log = execFileSync('git', ['-c', 'safe.directory=*', '-C', join(dir, 'out'), 'log', '--format=%s']);
    expect(log.toString()).toBe('Add\n');
    expect(readFileSync(join(dir, 'out', 'src', 'add.py'), 'utf8')).toContain('a + b');
    await end(id);
  });
});
