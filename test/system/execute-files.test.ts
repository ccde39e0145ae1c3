import { buffer, text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import type { ExecuteResult } from '../../client/types.ts';
import type { Problem } from '../../shared/errors.ts';
import { describeStack } from './suite.ts';

const MIB = 1_048_576;

describeStack('Files of an execution', {}, (stack) => {
  const upload = async (content: string | Uint8Array<ArrayBuffer>, filename = 'upload') =>
    (await stack().podgate.files.upload(content, { filename })).file_id;
  const contentOf = async (result: ExecuteResult, path: string) => {
    const { file_id } = result.files.find((file) => file.path === path) ?? { file_id: path };
    return buffer((await stack().podgate.files.download(file_id)).body);
  };
  const paths = (result: ExecuteResult) => result.files.map(({ path }) => path).sort();

  test('are staged by id before the code runs, and come back as ids of the file store', async () => {
    const file_id = await upload('a,b\n1,2\n');
    const ran = await stack().run('open("out/sum.txt", "w").write(open("data/in.csv").read().upper())', {
      files: [
        { path: 'data/in.csv', file_id },
        { path: 'out/keep', content: '' },
      ],
    });
    expect(ran.stderr).toBe('');
    expect(ran.files).toEqual([
      { path: 'out/sum.txt', kind: 'file', file_id: expect.stringMatching(/^[0-9a-f-]{36}$/) },
    ]);
    expect(String(await contentOf(ran, 'out/sum.txt'))).toBe('A,B\n1,2\n');
  });

  test('come with the request itself as text or as base64', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
    const ran = await stack().run(
      'import hashlib; print(open("t").read(), hashlib.sha256(open("b", "rb").read()).hexdigest())',
      {
        files: [
          { path: 't', content: 'Grüße' },
          { path: 'b', content_base64: bytes.toString('base64') },
        ],
      },
    );
    const digest = await crypto.subtle.digest('SHA-256', bytes);
    expect(ran.stdout).toBe(`Grüße ${Buffer.from(digest).toString('hex')}\n`);
  });

  test('that are only read are not listed, and neither are the code, directories, links or caches of links', async () => {
    const ran = await stack().run(
      `
import os
open("in.txt").read()
os.makedirs("dir/empty")
os.symlink("/etc/passwd", "link")
os.mkfifo("pipe")
assert open("__main__.py").read()
`,
      { files: [{ path: 'in.txt', content: 'same' }] },
    );
    expect(ran).toMatchObject({ exit_code: 0, files: [] });
  });

  test('that are written again with the same bytes are not listed, with others they are', async () => {
    const ran = await stack().run('open("same", "w").write("1"); open("other", "w").write("2"); None', {
      files: [
        { path: 'same', content: '1' },
        { path: 'other', content: '1' },
      ],
    });
    expect(paths(ran)).toEqual(['other']);
    expect(String(await contentOf(ran, 'other'))).toBe('2');
  });

  test('keep every name that Linux allows: dots, other alphabets, newlines, 255 bytes', async () => {
    const names = [
      '.env',
      '.config/.hidden',
      'Отчёт за год.txt',
      '世界/文件',
      'a\nb',
      'tab\there',
      '"quoted"',
      'ü'.repeat(127),
      'x'.repeat(255),
    ];
    const ran = await stack().run(
      `
import os
for name in ${JSON.stringify(names)}:
    if "/" in name: os.makedirs(os.path.dirname(name), exist_ok=True)
    open(name, "w").write(name)
`,
    );
    expect(ran.stderr).toBe('');
    expect(paths(ran)).toEqual([...names].sort());
    for (const name of names) expect(String(await contentOf(ran, name))).toBe(name);
  });

  test('with names of every kind go up and are found under their path', async () => {
    const names = ['.env', 'Отчёт.txt', 'a\nb', 'x'.repeat(255), 'deep/er/文件'];
    const files = await Promise.all(names.map(async (path) => ({ path, file_id: await upload(path, path) })));
    const ran = await stack().run(
      'import os, json\nprint(json.dumps({p: open(p).read() for p in json.loads(os.environ["NAMES"])}))',
      { files, env: { NAMES: JSON.stringify(names) } },
    );
    expect(JSON.parse(ran.stdout)).toEqual(Object.fromEntries(names.map((name) => [name, name])));
    expect(ran.files).toEqual([]);
  });

  test('have a download header that any client can read, whatever their name', async () => {
    const ran = await stack().run('open("Отчёт \\"1\\".txt", "w").write("x"); None');
    const response = await stack().fetch(`/v1/files/${ran.files[0]?.file_id}`);
    expect(response.headers.get('content-disposition')).toMatch(
      /^attachment; filename="[\x20-\x7e]+"; filename\*=UTF-8''/,
    );
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(decodeURIComponent(response.headers.get('content-disposition')?.split("UTF-8''")[1] ?? '')).toBe(
      'Отчёт "1".txt',
    );
    expect(await response.text()).toBe('x');
  });

  test('that are not kept are named with the reason', async () => {
    const ran = await stack().run(
      'for i in range(1005): open(f"f{i:04}", "w").write("x")\nopen(b"not-utf8-\\xff", "w").write("x"); None',
      { timeout_ms: 20_000 },
    );
    expect(ran.files).toHaveLength(1_000);
    expect(ran.files_omitted_count).toBe(6);
    expect(ran.files_omitted).toHaveLength(6);
    for (const { path, reason } of ran.files_omitted)
      expect([path, reason]).toEqual([expect.any(String), expect.stringMatching(/^[a-z0-9_]+$/)]);
    await Promise.all(ran.files.map(({ file_id }) => stack().podgate.files.delete(file_id)));
  });

  test('of megabytes go up and down byte for byte', async () => {
    const content = new Uint8Array(24 * MIB);
    for (let at = 0; at < content.length; at += 1) content[at] = (at * 7919) >> 8;
    const file_id = await upload(content);
    const ran = await stack().run(
      'data = open("in", "rb").read()\nopen("out", "wb").write(data[::-1]); print(len(data))',
      { files: [{ path: 'in', file_id }], timeout_ms: 20_000 },
    );
    expect(ran).toMatchObject({ exit_code: 0, stdout: `${content.length}\n` });
    expect(Buffer.compare(await contentOf(ran, 'out'), content.toReversed())).toBe(0);
  });

  test('come back from a program that failed, and from one that ran out of time', async () => {
    expect(paths(await stack().run('open("a", "w").write("1"); 1 / 0'))).toEqual(['a']);
    const late = await stack().run('open("b", "w").write("1")\nwhile True: pass', { timeout_ms: 300 });
    expect([late.timed_out, paths(late)]).toEqual([true, ['b']]);
  });

  test('of one execution are not there for the next', async () => {
    await stack().run('open("left", "w").write("x"); open("/tmp/left", "w").write("x"); None');
    const { stdout } = await stack().run('import os; print(os.listdir("."), os.listdir("/tmp"))');
    expect(stdout).not.toContain('left');
  });

  test('and left may have the name that the code of another language has', async () => {
    const left = await stack().run('for name in "js", "sh": open("__main__." + name, "w").write(name)');
    expect(left.files_omitted).toEqual([]);
    expect(left.files.map(({ path }) => path).sort()).toEqual(['__main__.js', '__main__.sh']);
    const code = 'for name in "js", "sh": print(open("__main__." + name).read())';
    const files = left.files.map(({ path, file_id }) => ({ path, file_id }));
    expect(await stack().run(code, { files })).toMatchObject({ stdout: 'js\nsh\n', files: [] });
  });

  test.each([
    ['/etc/passwd', 'File paths must be relative.'],
    ['../up', "File paths must not contain '..'."],
    ['a/../../b', "File paths must not contain '..'."],
    ['', 'File path must not be empty.'],
    ['./', 'File path must not be empty.'],
    ['__main__.py', "File path '__main__.py' is reserved for the execution entrypoint."],
    ['./__main__.py', "File path '__main__.py' is reserved for the execution entrypoint."],
  ])('cannot be staged as %j', async (path, message) => {
    const response = await stack().post('/v1/execute', { code: '1', files: [{ path, content: 'x' }] });
    expect(response.status).toBe(422);
    const problem = (await response.json()) as Problem;
    expect(problem).toMatchObject({ status: 422, code: 'invalid_request', retryable: false });
    expect(problem.errors).toEqual([{ path: 'files.0.path', message }]);
    expect(problem.detail).toContain(message);
  });

  test.each([
    ['an id that nobody has', crypto.randomUUID()],
    ['a path as an id', '../../etc/passwd'],
    ['no UUID', 'x'],
  ])('named by %s are a 404 that says which', async (_, file_id) => {
    const response = await stack().post('/v1/execute', { code: '1', files: [{ path: 'in', file_id }] });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({
      code: 'not_found',
      detail: `File with ID '${file_id}' not found for path 'in'.`,
    });
  });

  test('of another principal, or of another end user of the same key, are not there', async () => {
    const file_id = await upload('secret');
    const other = await stack().client({ sub: 'other' });
    await expect(other.execute({ code: '1', files: [{ path: 'in', file_id }] })).rejects.toMatchObject({
      status: 404,
    });
    await expect(other.files.download(file_id)).rejects.toMatchObject({ status: 404 });
    const user = await stack().fetch(`/v1/files/${file_id}`, { headers: { 'podgate-user': 'anna' } });
    expect(user.status).toBe(404);
    expect(await text((await stack().podgate.files.download(file_id)).body)).toBe('secret');
  });

  test('do not come in by two sources or none, twice under one path, or as broken base64', async () => {
    for (const files of [
      [{ path: 'a', content: 'x', content_base64: 'eA==' }],
      [{ path: 'a' }],
      [
        { path: 'a', content: 'x' },
        { path: './a', content: 'y' },
      ],
      [{ path: 'a', content_base64: '%%%' }],
      [{ path: 'a\0b', content: 'x' }],
      [{ path: 'x'.repeat(256), content: 'x' }],
    ]) {
      const response = await stack().post('/v1/execute', { code: '1', files });
      expect([response.status, JSON.stringify(files).slice(0, 50)]).toEqual([422, expect.anything()]);
    }
  });

  test('that cannot both be staged are refused before anything runs, and say why', async () => {
    const response = await stack().post('/v1/execute', {
      code: '1',
      files: [
        { path: 'a', content: 'x' },
        { path: 'a/b', content: 'y' },
      ],
    });
    expect(response.status).toBe(422);
    expect(await response.json()).toMatchObject({ code: 'stage_failed', detail: expect.stringMatching(/a/) });
  });
});
