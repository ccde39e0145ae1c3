import { describe, expect, test } from 'vitest';
import { MAX_DOWNLOADS_PER_HOLDER } from '../../gateway/files/downloads.ts';
import type { DISCARD_BOUNDS } from '../../gateway/http/discard.ts';
import { fileList, fileUploaded } from '../../shared/api.ts';
import { createFileRoutesApp } from '../fakes/file-routes-app.ts';
import { createMemoryFileStore } from '../fakes/memory-file-store.ts';

const LIMITS = { maxFileBytes: 1_048_576, maxBytes: 10_485_760, maxFiles: 2_000, ttlMs: 3_600_000 };
const OWNER = 'acme/anna';
const HEADERS = { 'Content-Type': 'multipart/form-data; boundary=b' };

function start(limits: Partial<typeof LIMITS> = {}, discard?: typeof DISCARD_BOUNDS) {
  const clock = { ms: 1_800_000_000_000 };
  const store = createMemoryFileStore({ ...LIMITS, ...limits }, () => clock.ms);
  const app = createFileRoutesApp(store, discard);
  const request = (path: string, init?: RequestInit) => app.request(`/v1/files${path}`, init);
  return { store, clock, request };
}

function form(
  fields: Record<string, string | [content: string | Uint8Array<ArrayBuffer>, filename: string]>,
): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === 'string') data.append(name, value);
    else data.append(name, new Blob([value[0]]), value[1]);
  }
  return data;
}

type Routes = ReturnType<typeof start>;
async function upload(
  { request }: Routes,
  content: string | Uint8Array<ArrayBuffer>,
  filename: string,
): Promise<{ file_id: string }> {
  const response = await request('', { method: 'POST', body: form({ file: [content, filename] }) });
  expect(response.status).toBe(201);
  return (await response.json()) as { file_id: string };
}

async function problemOf(response: Response) {
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  return response.json();
}

/** A body that is made as it is read. */
function streamOf(chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): ReadableStream {
  return ReadableStream.from(chunks as AsyncIterable<Uint8Array>);
}
const encode = (text: string) => new TextEncoder().encode(text);
const FILE_HEAD = encode('--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n');
const post = (body: ReadableStream): RequestInit & { duplex: 'half' } => ({
  method: 'POST',
  headers: HEADERS,
  body,
  duplex: 'half',
});

describe('POST /v1/files', () => {
  test('stores the field file and answers 201', async () => {
    const routes = start();
    const body = form({ before: 'x', file: ['hello', 'naïve.txt'], after: ['y', 'b.txt'] });
    const response = await routes.request('', { method: 'POST', body });
    expect(response.status).toBe(201);
    const answer = fileUploaded.strict().parse(await response.json());
    expect(answer).toEqual({ file_id: answer.file_id, filename: 'naïve.txt', size_bytes: 5 });
    expect(await routes.store.usage(OWNER)).toEqual({ bytes: 5, count: 1 });
  });

  test('takes an empty file and the first of two', async () => {
    const routes = start();
    await upload(routes, '', 'empty');
    const body = form({ file: ['first', '1'] });
    body.append('file', new Blob(['second']), '2');
    await routes.request('', { method: 'POST', body });
    const { files } = await routes.store.list(OWNER, { limit: 10 });
    expect(files.map(({ filename, size_bytes }) => [filename, size_bytes])).toEqual(
      expect.arrayContaining([
        ['empty', 0],
        ['1', 5],
      ]),
    );
    expect(files).toHaveLength(2);
  });

  test.for([
    ['no field file', form({ other: ['x', 'a'] }), undefined, "The form has no field 'file'"],
    ['no form', 'x', { 'Content-Type': 'text/plain' }, 'multipart/form-data'],
    ['no body', undefined, HEADERS, 'closing boundary'],
    [
      'no end',
      '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhello',
      HEADERS,
      'closing boundary',
    ],
  ] as const)('refuses %s with 422 and keeps nothing', async ([, body, headers, sentence]) => {
    const { request, store } = start();
    const response = await request('', {
      method: 'POST',
      body: body ?? null,
      ...(headers ? { headers } : {}),
    });
    expect(response.status).toBe(422);
    expect(await problemOf(response)).toMatchObject({
      code: 'invalid_request',
      detail: expect.stringContaining(sentence),
      errors: [{ path: expect.any(String), message: expect.stringContaining(sentence) }],
    });
    expect(await store.usage(OWNER)).toEqual({ bytes: 0, count: 0 });
  });

  test('takes exactly the limit; one byte more is 413, after reading to the end', async () => {
    const routes = start({ maxFileBytes: 104_857_600, maxBytes: 1_000_000_000 });
    const chunk = new Uint8Array(1_048_576);
    let sent = 0;
    const body = (extra: number) =>
      streamOf(
        (function* () {
          yield FILE_HEAD;
          for (sent = 0; sent < 100; sent++) yield chunk;
          yield new Uint8Array(extra);
          for (let more = 0; more < 20 * extra; more++, sent++) yield chunk;
          yield encode('\r\n--b--');
        })(),
      );
    expect((await routes.request('', post(body(0)))).status).toBe(201);
    expect(await routes.store.usage(OWNER)).toEqual({ bytes: 104_857_600, count: 1 });
    const response = await routes.request('', post(body(1)));
    expect(response.status).toBe(413);
    expect(await problemOf(response)).toMatchObject({
      code: 'too_large',
      detail: 'File size exceeds maximum of 100 MB',
      retryable: false,
      request_id: 'request-1',
    });
    expect(sent).toBe(120);
    expect(await routes.store.usage(OWNER)).toEqual({ bytes: 104_857_600, count: 1 });
  });

  test('reads a refused upload only so far and so long', async () => {
    const routes = start({ maxFileBytes: 1_000 }, { maxBytes: 10_000_000, maxMs: 10_000 });
    let sent = 0;
    let cancelled = false;
    const endless = streamOf(
      (async function* () {
        try {
          yield FILE_HEAD;
          for (;;) {
            sent += 1_000_000;
            yield new Uint8Array(1_000_000);
          }
        } finally {
          cancelled = true;
        }
      })(),
    );
    expect((await routes.request('', post(endless))).status).toBe(413);
    expect(sent).toBeLessThan(14_000_000);
    expect(cancelled).toBe(true);

    const patient = start({ maxFileBytes: 1_000 }, { maxBytes: 10_000_000, maxMs: 20 });
    const stalled = new ReadableStream({
      start(controller) {
        controller.enqueue(FILE_HEAD);
        controller.enqueue(new Uint8Array(2_000));
      },
    });
    expect((await patient.request('', post(stalled))).status).toBe(413);
  });

  test('does not read other fields for ever', async () => {
    const { request } = start({}, { maxBytes: 1_000_000, maxMs: 1_000 });
    const endless = streamOf(
      (function* () {
        yield encode('--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n');
        for (;;) yield new Uint8Array(100_000);
      })(),
    );
    const response = await request('', post(endless));
    expect(response.status).toBe(413);
    expect(await problemOf(response)).toMatchObject({ detail: 'The form is too large beside its file' });
  });

  test('holds a file back as fast as it is stored, never whole', async () => {
    const { request, store } = start();
    const create = store.create.bind(store);
    let written = 0;
    let ahead = 0;
    store.create = async (...args) => {
      const writer = await create(...args);
      const write = writer.write.bind(writer);
      writer.write = async (chunk) => {
        await new Promise((resolve) => setImmediate(resolve));
        await write(chunk);
        written += chunk.byteLength;
      };
      return writer;
    };
    let sent = 0;
    const body = streamOf(
      (function* () {
        yield FILE_HEAD;
        for (let part = 0; part < 100; part++) {
          ahead = Math.max(ahead, sent - written);
          sent += 10_000;
          yield new Uint8Array(10_000);
        }
        yield encode('\r\n--b--');
      })(),
    );
    expect((await request('', post(body))).status).toBe(201);
    expect(ahead).toBeLessThan(50_000);
  });

  test('leaves nothing behind when the client goes away', async () => {
    const { request, store } = start();
    const body = streamOf(
      (async function* () {
        yield FILE_HEAD;
        yield new Uint8Array(1_000);
        throw new Error('connection reset');
      })(),
    );
    expect((await request('', post(body))).status).toBe(500);
    expect(await store.usage(OWNER)).toEqual({ bytes: 0, count: 0 });
  });

  test("counts the key's ceilings at its holder, whichever user it names", async () => {
    const { request } = start();
    const caller = (user: string) => ({
      'Test-Caller': JSON.stringify({
        principal: `acme/anna/${user}`,
        limits: { file_bytes: 10, file_count: 2 },
      }),
    });
    const send = (user: string, size: number) =>
      request('', {
        method: 'POST',
        body: form({ file: [new Uint8Array(size), 'a'] }),
        headers: caller(user),
      });
    expect((await send('1', 6)).status).toBe(201);
    expect((await send('2', 5)).status).toBe(413);
    expect((await send('2', 4)).status).toBe(201);
    expect((await send('3', 0)).status).toBe(413);
    const { files } = fileList.parse(await (await request('', { headers: caller('2') })).json());
    expect(files.map(({ size_bytes }) => size_bytes)).toEqual([4]);
  });
});

describe('GET /v1/files/{id}', () => {
  test('answers the bytes as an attachment that no browser sniffs', async () => {
    const routes = start();
    const { file_id } = await upload(routes, Uint8Array.of(0, 255, 10), '日本 "x".bin');
    const response = await routes.request(`/${file_id}`);
    expect(response.status).toBe(200);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-length': '3',
      'x-content-type-options': 'nosniff',
      'content-disposition': `attachment; filename="__ \\"x\\".bin"; filename*=UTF-8''%E6%97%A5%E6%9C%AC%20%22x%22.bin`,
    });
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(Uint8Array.of(0, 255, 10));
    const head = await routes.request(`/${file_id}`, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '3', '']);
  });

  test.for(['.env', 'plain.csv', '😀', 'x'.repeat(255), '100%.txt'])('keeps the name %j', async (name) => {
    const routes = start();
    const { file_id } = await upload(routes, 'x', name);
    const { files } = fileList.parse(await (await routes.request('')).json());
    expect(files[0]).toMatchObject({ file_id, filename: name });
  });

  test.for(['GET', 'DELETE', 'HEAD'])('%s: a missing, expired or foreign file is 404', async (method) => {
    const routes = start();
    const { file_id } = await upload(routes, 'x', 'a');
    const gone = 'ffffffff-ffff-4fff-8fff-ffffffffffff';
    const ask = (id: string, headers = {}) =>
      routes.request(`/${encodeURIComponent(id)}`, { method, headers });
    const ben = { 'Test-Caller': JSON.stringify({ principal: 'acme/ben', holder: 'acme/ben' }) };
    for (const [id, headers] of [
      [gone, {}],
      ['../../etc/passwd', {}],
      ['x'.repeat(2_000), {}],
      [file_id, ben],
    ] as const) {
      const response = await ask(id, headers);
      expect(response.status).toBe(404);
      if (method !== 'HEAD') {
        expect(await problemOf(response)).toMatchObject({
          code: 'not_found',
          detail: `File with ID '${id}' not found`,
        });
      }
    }
    routes.clock.ms += LIMITS.ttlMs;
    expect((await ask(file_id)).status).toBe(404);
  });
});

describe('downloads at once', () => {
  const anna = (user: string) => ({ headers: { 'Test-Caller': JSON.stringify({ user }) } });

  test('are bounded for each holder of a key, whichever user it names, until one ends', async () => {
    const routes = start();
    const { file_id } = await upload(routes, 'x', 'a');
    const open: Response[] = [];
    for (let index = 0; index < MAX_DOWNLOADS_PER_HOLDER; index += 1)
      open.push(await routes.request(`/${file_id}`, anna(String(index))));
    expect(new Set(open.map(({ status }) => status))).toEqual(new Set([200]));
    const refused = await routes.request(`/${file_id}`);
    expect([refused.status, await problemOf(refused)]).toMatchObject([429, { code: 'rate_limited' }]);
    expect((await routes.request(`/${file_id}`, { method: 'HEAD' })).status).toBe(200);
    const ben = { 'Test-Caller': JSON.stringify({ holder: 'acme/ben' }) };
    expect((await routes.request(`/${file_id}`, { headers: ben })).status).toBe(200);
    await open[0]?.body?.cancel();
    expect(await open[1]?.text()).toBe('x');
    const ask = async () => (await routes.request(`/${file_id}`)).status;
    expect([await ask(), await ask(), await ask()]).toEqual([200, 200, 429]);
  });

  test('do not count those that are refused', async () => {
    const routes = start();
    for (let index = 0; index <= MAX_DOWNLOADS_PER_HOLDER; index += 1)
      expect((await routes.request('/none')).status).toBe(404);
  });
});

describe('the other routes of files', () => {
  test('DELETE answers 204 without a body', async () => {
    const routes = start();
    const { file_id } = await upload(routes, 'x', 'a');
    const response = await routes.request(`/${file_id}`, { method: 'DELETE' });
    expect([response.status, await response.text()]).toEqual([204, '']);
    expect((await routes.request(`/${file_id}`)).status).toBe(404);
  });

  test('GET lists page by page', async () => {
    const routes = start();
    for (let index = 0; index < 5; index++) {
      routes.clock.ms += 1;
      await upload(routes, 'x', `${index}`);
    }
    const names: string[] = [];
    let query = '?limit=2';
    for (;;) {
      const page = fileList.strict().parse(await (await routes.request(query)).json());
      names.push(...page.files.map(({ filename }) => filename));
      if (page.next_cursor === null) break;
      query = `?limit=2&cursor=${encodeURIComponent(page.next_cursor)}`;
    }
    expect(names).toEqual(['0', '1', '2', '3', '4']);
  });

  test.for([
    ['?limit=0', 'limit must be at least 1'],
    ['?limit=1001', 'limit exceeds maximum of 1000'],
    ['?limit=abc', 'limit must be a whole number'],
    ['?limit=1.5', 'limit must be a whole number'],
    ['?limit=', 'limit must be a whole number'],
    ['?cursor=x', 'cursor is not one that this list gave'],
    ['?cursor=', 'cursor is not one that this list gave'],
  ] as const)('GET refuses %s with 422', async ([query, detail]) => {
    const response = await start().request(query);
    expect(response.status).toBe(422);
    const [, path] = /^.(\w+)=/.exec(query) ?? [];
    const errors = [{ path, message: detail }];
    expect(await problemOf(response)).toMatchObject({ code: 'invalid_request', detail, errors });
  });

  test.for([
    ['POST', ''],
    ['GET', ''],
    ['GET', '/x'],
    ['DELETE', '/x'],
  ] as const)('%s %s needs the scope files', async ([method, path]) => {
    const headers = { 'Test-Caller': JSON.stringify({ scopes: ['execute'] }) };
    const response = await start().request(path, { method, headers });
    expect(response.status).toBe(403);
    expect(await problemOf(response)).toMatchObject({ code: 'forbidden' });
  });
});
