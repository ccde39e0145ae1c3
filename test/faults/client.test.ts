import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Podgate, PodgateError, type StreamEvent } from '../../client/podgate.ts';
import { readServerSentEvents } from '../../client/server-sent-events.ts';
import { attachmentDisposition } from '../../gateway/files/disposition.ts';
import { freePort } from '../fakes/free-port.ts';
import { type Handler, startHttpServer } from '../fakes/http-server.ts';
import { createAuthority } from '../fakes/kube-api/certificates.ts';

const END = {
  exit_code: 0,
  timed_out: false,
  duration_ms: 1,
  files: [],
  execution_id: 'e1',
  cluster: 'here',
  outcome: 'exited',
};

async function start(handle: Handler, options: object = {}) {
  const { url, requests } = await startHttpServer(handle);
  return { podgate: new Podgate({ baseUrl: url, key: 'KEY', ...options }), requests, url };
}

function answer(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

const problem = (code: string, more: object = {}) => ({
  type: `urn:podgate:error:${code}`,
  title: 'title',
  status: 503,
  detail: `${code} happened`,
  code,
  retryable: true,
  request_id: 'r1',
  ...more,
});

async function collect(events: AsyncIterable<StreamEvent>): Promise<StreamEvent[]> {
  const collected: StreamEvent[] = [];
  for await (const event of events) collected.push(event);
  return collected;
}

const rejection = (promise: Promise<unknown>): Promise<PodgateError> =>
  promise.then(
    () => expect.unreachable('it resolved'),
    (error) => {
      expect(error).toBeInstanceOf(PodgateError);
      return error;
    },
  );

const openEvents = (response: ServerResponse) =>
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
const output = (data: string) => `event: output\ndata: ${JSON.stringify({ stream: 'stdout', data })}\n\n`;
const failed = (code: string, started: string) =>
  `event: error\ndata: ${JSON.stringify({ message: `${code} happened`, code, started })}\n\n`;
const NOW = { 'Retry-After': '0' };
const result = `event: result\ndata: ${JSON.stringify(END)}\n\n`;

describe('a client', () => {
  test('sends what it was given, where it was told', async () => {
    const bodies: unknown[] = [];
    const { podgate, requests } = await start(
      async (request, response) => {
        bodies.push(JSON.parse(await text(request)));
        answer(response, 200, { stdout: '42\n', stderr: '', ...END });
      },
      { cluster: 'lab', user: 'u1' },
    );
    expect((await podgate.execute('print(42)')).stdout).toBe('42\n');
    await podgate.execute({ code: 'x', timeout_ms: 5 }, { idempotencyKey: 'once' });
    expect(bodies).toEqual([{ code: 'print(42)' }, { code: 'x', timeout_ms: 5 }]);
    expect(requests[1]?.url).toBe('/v1/execute');
    expect(requests[1]?.headers).toMatchObject({
      authorization: 'Bearer KEY',
      'podgate-cluster': 'lab',
      'podgate-user': 'u1',
      'idempotency-key': 'once',
      'content-type': 'application/json',
    });
    expect(requests[0]?.headers).not.toHaveProperty('idempotency-key');
  });

  test.for([
    ['key:J.W.T@', '', 'J.W.T'],
    ['J.W.T@', '/', 'J.W.T'],
    ['key:a%2Fb@', '/clusters/lab/', 'a/b'],
    ['key:J.W.T@', '/?secret=1#part', 'J.W.T'],
  ] as const)('takes the key from a base URL with %s and the path %j', async ([userInfo, path, key]) => {
    const { url, requests } = await startHttpServer((_request, response) =>
      answer(response, 200, { clusters: [], next_cursor: null }),
    );
    const podgate = new Podgate({ baseUrl: `${url.replace('//', `//${userInfo}`)}${path}` });
    expect(await podgate.clusters.list({ limit: 5, cursor: 'a b' })).toEqual({
      clusters: [],
      next_cursor: null,
    });
    expect(requests[0]?.headers.authorization).toBe(`Bearer ${key}`);
    const below = path.replace(/\/([?#].*)?$/, '');
    expect(requests[0]?.url).toBe(`${below}/v1/clusters?limit=5&cursor=a+b`);
  });

  test('moves files up and down as they are', async () => {
    let uploaded = '';
    const { podgate, requests } = await start(async (request, response) => {
      if (request.method === 'POST') {
        uploaded = await text(request);
        answer(response, 201, { file_id: 'f1', filename: 'é.txt', size_bytes: 3 });
      } else if (request.method === 'DELETE') response.writeHead(204).end();
      else if (request.url === '/v1/files') answer(response, 200, { files: [], next_cursor: null });
      else {
        response.setHeader(
          'Content-Disposition',
          `attachment; filename="_.txt"; filename*=UTF-8''%C3%A9.txt`,
        );
        response.setHeader('Content-Length', 3);
        response.end('abc');
      }
    });
    for (const content of [
      'abc',
      new Blob(['abc']),
      new Uint8Array([97, 98, 99]),
      new Uint8Array([97, 98, 99]).buffer,
    ]) {
      expect(await podgate.files.upload(content, { filename: 'é.txt' })).toMatchObject({ file_id: 'f1' });
      expect(uploaded).toMatch(/name="file"; filename="é.txt"[\s\S]*\r\n\r\nabc\r\n/);
    }
    const { filename, size_bytes, body } = await podgate.files.download('a/../b');
    expect(requests.at(-1)?.url).toBe('/v1/files/a%2F..%2Fb');
    expect([filename, size_bytes, await new Response(body).text()]).toEqual(['é.txt', 3, 'abc']);
    expect((await podgate.files.list()).files).toEqual([]);
    await podgate.files.delete('f1');
    await podgate.executions.cancel('e1');
    expect(requests.at(-1)).toMatchObject({ method: 'DELETE', url: '/v1/executions/e1' });
  });
});

test.for([
  "a; filename*=UTF-8''..%2F..%2F.bashrc; b",
  `a"; filename*=UTF-8''..%2Fb`,
  "filename*=UTF-8''b",
  'a\\"b 100%.txt',
  '日本; "x".bin',
])('a client names a download as the gateway does, whatever its name says: %j', async (name) => {
  const headers = { 'Content-Disposition': attachmentDisposition(name) };
  const fetch = () => Promise.resolve(new Response('abc', { headers }));
  const podgate = new Podgate({ baseUrl: 'http://podgate.invalid', fetch });
  expect((await podgate.files.download('f1')).filename).toBe(name);
});

describe('a client that is refused', () => {
  test('rejects with what the problem says', async () => {
    const errors = [{ path: 'timeout_ms', message: 'too long' }];
    const { podgate, requests } = await start((_request, response) =>
      answer(response, 422, problem('invalid_request', { retryable: false, errors }), { 'Retry-After': '7' }),
    );
    expect(await rejection(podgate.execute('x'))).toMatchObject({
      name: 'PodgateError',
      message: 'invalid_request happened',
      code: 'invalid_request',
      status: 422,
      retryable: false,
      requestId: 'r1',
      retryAfterMs: 7_000,
      started: null,
      errors,
    });
    expect(requests).toHaveLength(1);
  });

  test.for([
    ['a page of HTML', 502, '<html>Bad gateway</html>', 'http_502'],
    ['nothing', 404, '', 'http_404'],
    ['a list', 400, '[1]', 'http_400'],
    ['2 MB', 500, 'x'.repeat(2_000_000), 'http_500'],
    ['503 that Podgate did not write', 503, '{"retryable":true}', 'http_503'],
  ] as const)('by %s rejects and is not sent again', async ([, status, body, code]) => {
    const { podgate, requests } = await start((_request, response) => response.writeHead(status).end(body));
    expect(await rejection(podgate.execute('x'))).toMatchObject({ code, status, retryable: false });
    expect(requests).toHaveLength(1);
  });

  test.for([301, 302, 303, 307, 308])(
    'by a redirect (%i) sends nothing there, and says where it leads',
    async (status) => {
      const other = await startHttpServer((_request, response) => answer(response, 200, {}));
      const { podgate, requests } = await start((_request, response) =>
        response.writeHead(status, { Location: `${other.url}/v1/execute?token=SECRET` }).end('moved'),
      );
      for (const ask of [
        () => podgate.execute('x'),
        () => podgate.stream('x').next(),
        () => podgate.executions.get('e1'),
        () => podgate.files.upload(new Blob(['x']), { filename: 'x' }),
        () => podgate.files.download('f1'),
      ]) {
        const error = await rejection(ask());
        expect(error).toMatchObject({ code: 'redirected', status, retryable: false, started: null });
        expect(error.message).toBe(
          `The server sends on to ${other.url}, and nothing was sent there. Give the URL of the gateway itself as base URL`,
        );
      }
      expect([requests.length, other.requests.length]).toEqual([5, 0]);
    },
  );

  test('by a redirect that is not told where it leads, as in browsers, rejects', async () => {
    const hidden = {
      type: 'opaqueredirect',
      status: 0,
      ok: false,
      body: null,
      url: '',
      headers: new Headers(),
    };
    const fetch = () => Promise.resolve(hidden as Response);
    const podgate = new Podgate({ baseUrl: 'http://podgate.invalid', fetch });
    expect(await rejection(podgate.execute('x'))).toMatchObject({
      code: 'redirected',
      status: null,
      message: expect.stringContaining('sends on to somewhere else'),
    });
  });

  test('tries again when told that it may, after as long as it was told', async () => {
    const times: number[] = [];
    const { podgate } = await start((_request, response, count) => {
      times.push(performance.now());
      if (count === 1) answer(response, 503, problem('at_capacity'), { 'Retry-After': '1' });
      else if (count === 2) answer(response, 429, problem('rate_limited'), { 'Retry-After': '0' });
      else answer(response, 200, { stdout: 'ok', stderr: '', ...END });
    });
    expect((await podgate.execute('x')).stdout).toBe('ok');
    expect(times).toHaveLength(3);
    expect((times[1] as number) - (times[0] as number)).toBeGreaterThanOrEqual(990);
  });

  test('tries three times more and no more, files too', async () => {
    const { podgate, requests } = await start(async (request, response) => {
      expect(await text(request)).toContain('abc');
      answer(response, 503, problem('no_agent'), { 'Retry-After': '0' });
    });
    const failed = await rejection(podgate.files.upload('abc', { filename: 'a' }));
    expect(failed).toMatchObject({ code: 'no_agent', retryable: true, retryAfterMs: 0 });
    expect(requests).toHaveLength(4);
  });

  test.for([
    ['something started', 503, { started: 'yes' }, '0', false],
    ['something may have started', 503, { started: 'what' }, '0', false],
    ['it is not retryable', 503, { retryable: false }, '0', false],
    ['it is no overload', 409, {}, '0', true],
    ['it would have to wait longer than ten seconds', 429, {}, '11', true],
  ] as const)('does not try again when %s', async ([, status, more, retryAfter, retryable]) => {
    const { podgate, requests } = await start((_request, response) =>
      answer(response, status, problem('code', more), { 'Retry-After': retryAfter }),
    );
    expect(await rejection(podgate.execute('x'))).toMatchObject({ status, retryable });
    expect(requests).toHaveLength(1);
  });

  test('tries again where a session is busy: nothing was done', async () => {
    const { podgate, requests } = await start((_request, response, count) => {
      if (count === 1) answer(response, 409, problem('busy', { status: 409 }));
      else answer(response, 200, { stdout: 'ok', stderr: '', ...END });
    });
    expect((await podgate.sessions.open('s').execute('x')).stdout).toBe('ok');
    expect(requests).toHaveLength(2);
  });

  test('asks for few files of a session at once, and for no more of who waits no longer', async () => {
    const held: ServerResponse[] = [];
    const { podgate, requests } = await start((_request, response) => {
      held.push(response);
    });
    const { files } = podgate.sessions.open('s');
    const leaving = new AbortController();
    const asked = ['a', 'b', 'c', 'd'].map((path) => files.stat(path));
    const left = files.stat('e', { signal: leaving.signal });
    const last = files.stat('f');
    await expect.poll(() => held.length).toBe(4);
    leaving.abort(new Error('enough'));
    await expect(left).rejects.toThrow('enough');
    answer(held[0] as ServerResponse, 404, problem('not_found', { status: 404, retryable: false }));
    expect(await rejection(asked[0] as Promise<unknown>)).toMatchObject({ code: 'not_found' });
    await expect.poll(() => held.length).toBe(5);
    for (const response of held.slice(1)) answer(response, 200, {});
    await Promise.all([...asked.slice(1), last]);
    expect(requests.map(({ url }) => url?.at(-1))).toEqual(['a', 'b', 'c', 'd', 'f']);
  });

  test('sends nothing twice that it cannot make again', async () => {
    const { podgate, requests } = await start((request, response) => {
      if (request.url?.endsWith('/bash/stream')) {
        openEvents(response.setHeader('podgate-execution-id', 'x')).flushHeaders();
        return;
      }
      request.resume();
      answer(response, 429, problem('rate_limited'), { 'Retry-After': '0' });
    });
    const program = await podgate.sessions.open('s').spawn('cat');
    const input = new Blob(['abc']).stream();
    expect(await rejection(program.write(input))).toMatchObject({ code: 'rate_limited', retryable: true });
    expect(requests.filter(({ url }) => url?.includes('/stdin'))).toHaveLength(1);
  });

  test('reads no more of a failed answer than a problem has, and lets go of the rest', async () => {
    const closed = Promise.withResolvers<void>();
    const { podgate } = await start((_request, response) => {
      response.writeHead(502).on('close', closed.resolve);
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536, 'x')));
      };
      response.on('drain', more);
      more();
    });
    expect(await rejection(podgate.execute('x'))).toMatchObject({ code: 'http_502', status: 502 });
    await closed.promise;
  });

  test('stops waiting when its signal aborts', async () => {
    const { podgate, requests } = await start((_request, response) =>
      answer(response, 503, problem('at_capacity'), { 'Retry-After': '10' }),
    );
    const leaving = new AbortController();
    const pending = podgate.execute('x', { signal: leaving.signal });
    await expect.poll(() => requests.length).toBe(1);
    leaving.abort(new Error('enough'));
    await expect(pending).rejects.toThrow('enough');
    await expect(podgate.execute('x', { signal: leaving.signal })).rejects.toThrow('enough');
    expect(requests).toHaveLength(1);
  });
});

describe('a client that is given what cannot be sent', () => {
  const thrown = (options: object): PodgateError => {
    try {
      new Podgate({ baseUrl: 'http://here', ...options });
    } catch (error) {
      expect(error).toBeInstanceOf(PodgateError);
      return error as PodgateError;
    }
    return expect.unreachable('it was made');
  };

  test.for([
    ['baseUrl', { baseUrl: 'no URL with a SECRET' }],
    ['baseUrl', { baseUrl: 'ftp://key:SECRET@here' }],
    ['baseUrl', { baseUrl: 'http://key:SECRET%zz@here' }],
    ['key', { key: 'SECRET\nx' }],
    ['cluster', { cluster: 'l\0b' }],
    ['user', { user: 'Zoë€' }],
    ['key', { key: 5 }],
    ['cluster', { cluster: null }],
    ['user', { user: null }],
    ['user', { user: { id: 'SECRET' } }],
    ['fetch', { fetch: 'SECRET' }],
  ] as const)('as its %s throws as its calls do, and names it without its value: %j', ([option, options]) => {
    const error = thrown(options);
    expect(error).toMatchObject({ code: 'invalid_request', status: null, started: 'no', retryable: false });
    expect(error.errors).toEqual([{ path: option, message: error.message }]);
    expect(inspect(error)).not.toContain('SECRET');
  });

  test.for([undefined, null, 'http://here'])('as %j in place of its options throws in a word', (options) => {
    expect(() => new Podgate(options as never)).toThrow(
      expect.objectContaining({
        code: 'invalid_request',
        message: 'options must be an object that has a baseUrl',
      }),
    );
  });

  test('as a controller in place of its signal rejects, and sends nothing', async () => {
    const { podgate, requests } = await start((_request, response) => answer(response, 200, END));
    const options = { signal: new AbortController() as never };
    const session = podgate.sessions.open('s');
    for (const call of [
      podgate.execute('x', options),
      collect(podgate.stream('x', options)),
      collect(podgate.executions.events('e', options)),
      podgate.files.list({ signal: {} as never }),
      session.bash('x', options),
      session.terminal({}, options),
    ])
      expect(await rejection(call)).toMatchObject({
        code: 'invalid_request',
        started: 'no',
        errors: [{ path: 'signal' }],
      });
    expect(requests).toEqual([]);
  });

  test('as an idempotency key or an event rejects, and sends nothing', async () => {
    const { podgate, requests } = await start((_request, response) => response.end());
    const calls = [
      podgate.execute('x', { idempotencyKey: 'Schlüssel €' }),
      collect(podgate.stream('x', { idempotencyKey: 'a\nb' })),
      podgate.sessions.open('s').bash('x', { idempotencyKey: '€' }),
      collect(podgate.executions.events('e1', { lastEventId: '€' })),
    ];
    for (const call of calls)
      expect(await rejection(call)).toMatchObject({ code: 'invalid_request', started: 'no', status: null });
    expect(requests).toEqual([]);
  });

  test.for(['', '.', '..', 'half \ud83d', '\udc00'])(
    'as the id or name %j rejects, and asks for nothing else',
    async (id) => {
      const { podgate, requests } = await start((_request, response) => answer(response, 200, END));
      const calls = [
        podgate.sessions.open(id).execute('x'),
        podgate.sessions.open(id).end(),
        podgate.sessions.open('s').endTerminal(id),
        podgate.files.download(id),
        podgate.executions.cancel(id),
        collect(podgate.executions.events(id)),
        podgate.sessions.open('s').terminal({ name: id }),
      ];
      for (const call of calls)
        expect(await rejection(call)).toMatchObject({ code: 'invalid_request', started: 'no', status: null });
      expect(requests).toEqual([]);
    },
  );

  test('as the path of a file rejects where it would be that of another', async () => {
    const { podgate, requests } = await start((_request, response) => answer(response, 200, END));
    const { files } = podgate.sessions.open('s');
    for (const call of [files.write('half \ud83d', 'x'), files.list('\udc00'), files.delete('\ud83d')])
      expect(await rejection(call)).toMatchObject({
        code: 'invalid_request',
        started: 'no',
        errors: [{ path: 'path', message: 'path must not hold a lone surrogate' }],
      });
    expect(requests).toEqual([]);
  });

  // None of these compiles, and all of them are met in JavaScript: each would be sent as something else.
  test('as a value of another type rejects, and sends nothing in its place', async () => {
    const { podgate, requests } = await start((_request, response) => answer(response, 200, END));
    const session = podgate.sessions.open('s');
    const { files } = session;
    const none = null as never;
    const calls: [string, Promise<unknown>][] = [
      ['cpu_seconds', podgate.execute({ code: 'x', limits: { cpu_seconds: Number.NaN } })],
      ['idle_seconds', podgate.sessions.create({ idle_seconds: Number.POSITIVE_INFINITY })],
      ['timeout_ms', session.bash({ cmd: 'x', timeout_ms: 10n as never })],
      ['idempotencyKey', podgate.execute('x', { idempotencyKey: none })],
      ['idempotencyKey', session.execute('x', { idempotencyKey: {} as never })],
      ['lastEventId', collect(podgate.executions.events('e', { lastEventId: none }))],
      ['cursor', podgate.files.list({ cursor: none })],
      ['path', files.write(none, 'x')],
      ['content', files.write('f', none)],
      ['content', files.unpack(new Blob(['x']).stream() as never)],
      ['content', podgate.files.upload({} as never, { filename: 'f' })],
      ['filename', podgate.files.upload('x', { filename: undefined as never })],
      ['id', podgate.sessions.open(undefined as never).state()],
      ['id', session.restart(none)],
    ];
    for (const [option, call] of calls)
      expect([option, await rejection(call)]).toMatchObject([
        option,
        { code: 'invalid_request', started: 'no', status: null, errors: [{ path: option }] },
      ]);
    expect(requests).toEqual([]);
    for (const bytes of [new Uint8Array(2), new ArrayBuffer(2), new Blob(['xy']), 'xy', Buffer.from('xy')])
      await files.write('f', bytes);
    expect(requests.map(({ headers }) => headers['content-length'])).toEqual(Array(5).fill('2'));
  });

  test.for([
    [{ first: -1 }, 'first'],
    [{ first: 0.5 }, 'first'],
    [{ last: Number.NaN }, 'last'],
    [{ first: 1e21 }, 'first'],
    [{ first: 5, last: 4 }, 'last'],
  ] as const)('as the part of a file rejects, of which all would come: %j', async ([part, option]) => {
    const { podgate, requests } = await start((_request, response) => response.end('whole'));
    const { files } = podgate.sessions.open('s');
    expect(await rejection(files.read('f', part))).toMatchObject({
      code: 'invalid_request',
      started: 'no',
      errors: [{ path: option }],
    });
    expect(requests).toEqual([]);
    await (await files.read('f', { first: 4, last: 4 })).cancel();
    expect(requests[0]?.headers.range).toBe('bytes=4-4');
  });

  test('as the key of a terminal rejects', async () => {
    const { podgate } = await start((_request, response) => response.end(), { key: 'a key with blanks' });
    expect(await rejection(podgate.sessions.open('s').terminal())).toMatchObject({
      code: 'invalid_request',
      started: 'no',
    });
  });
});

test('a client whose runtime has no WebSocket says that of its terminals', async () => {
  vi.stubGlobal('WebSocket', undefined);
  onTestFinished(() => void vi.unstubAllGlobals());
  const opening = new Podgate({ baseUrl: 'http://127.0.0.1:9', key: 'J.W.T' }).sessions.open('s').terminal();
  expect(await rejection(opening)).toMatchObject({
    code: 'no_terminal',
    message: expect.stringContaining('WebSocket'),
  });
});

describe('a client whose connection breaks', () => {
  test('before there is one says where nobody answers, and that nothing was sent', async () => {
    const port = await freePort();
    const podgate = new Podgate({ baseUrl: `http://key:secret@127.0.0.1:${port}/path` });
    const failed = await rejection(podgate.execute('x'));
    expect(failed).toMatchObject({ code: 'connection_lost', status: null, started: 'no', retryable: false });
    expect(failed.message).toBe(
      `No Podgate answers at http://127.0.0.1:${port} (ECONNREFUSED), so nothing was sent`,
    );
    expect(await rejection(podgate.files.list())).toMatchObject({ code: 'connection_lost', started: null });
  });

  test('since it does not trust the certificate says so, and that nothing was sent', async () => {
    const server = createTlsServer(createAuthority().issue({ name: 'podgate' }));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    onTestFinished(() => void server.close());
    const baseUrl = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const failed = await rejection(new Podgate({ baseUrl, key: 'J.W.T' }).execute('x'));
    expect(failed).toMatchObject({ code: 'connection_lost', started: 'no', retryable: false });
    expect(failed.message).toBe(
      `The certificate of ${baseUrl} is not trusted (UNABLE_TO_VERIFY_LEAF_SIGNATURE), so nothing was sent; NODE_EXTRA_CA_CERTS names a file of authorities to trust`,
    );
  });

  test('before the answer does not know whether code started', async () => {
    const { podgate, requests } = await start((_request, response) => response.destroy());
    expect(await rejection(podgate.execute('x'))).toMatchObject({
      code: 'connection_lost',
      status: null,
      started: 'unknown',
      retryable: false,
    });
    expect(await rejection(podgate.files.list())).toMatchObject({ code: 'connection_lost', started: null });
    expect(requests).toHaveLength(2);
  });

  test('behind the id of what was begun resolves to it', async () => {
    const headers = { 'podgate-execution-id': 'e1' };
    const broken = new ReadableStream({
      start: (controller) => controller.error(new TypeError('terminated')),
    });
    const fetch = () => Promise.resolve(new Response(broken, { headers }));
    expect(await new Podgate({ baseUrl: 'http://podgate.invalid', fetch }).start('x')).toBe('e1');
  });

  test('within a JSON answer rejects', async () => {
    const { podgate } = await start((_request, response) => {
      response.writeHead(200, { 'Content-Length': '1000' });
      response.write('{"stdout":', () => response.destroy());
    });
    expect(await rejection(podgate.execute('x'))).toMatchObject({
      code: 'connection_lost',
      started: 'unknown',
    });
  });

  test.for(['not json', '[', '7', ''])('never takes %j for an answer', async (body) => {
    const { podgate } = await start((_request, response) => response.end(body));
    expect(await rejection(podgate.execute('x'))).toMatchObject({
      code: 'malformed_answer',
      started: 'unknown',
    });
  });

  test('within a download fails its body, never ends it short', async () => {
    const { podgate } = await start((_request, response) => {
      response.writeHead(200, { 'Content-Length': '1000' });
      response.write('abc', () => response.destroy());
    });
    const { body } = await podgate.files.download('f');
    expect(await rejection(new Response(body).text())).toMatchObject({
      code: 'connection_lost',
      started: null,
    });
    const file = await podgate.sessions.open('s').files.read('f');
    expect(await rejection(new Response(file).text())).toMatchObject({ code: 'connection_lost' });
  });

  test('within a download that was aborted fails its body with the reason of the signal', async () => {
    const { podgate } = await start((_request, response) => {
      response.writeHead(200, { 'Content-Length': '1000' });
      response.write('abc');
    });
    const leaving = new AbortController();
    const { body } = await podgate.files.download('f', { signal: leaving.signal });
    const reader = body.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe('abc');
    leaving.abort(new Error('enough'));
    await expect(reader.read()).rejects.toThrow('enough');
  });

  test('as a reader leaves lets go of a download', async () => {
    const closed = Promise.withResolvers<void>();
    const { podgate } = await start((_request, response) => {
      void once(response, 'close').then(() => closed.resolve());
      response.writeHead(200, { 'Content-Length': '1000' });
      response.write('abc');
    });
    const { body } = await podgate.files.download('f');
    await body.cancel();
    await closed.promise;
  });
});

describe('a stream', () => {
  test('yields output as it happens, then the result', async () => {
    let print: ((line: string) => void) | undefined;
    const { podgate } = await start((_request, response) => {
      openEvents(response).flushHeaders();
      print = (line) => void response.write(line);
    });
    const events = podgate.stream('x');
    const first = events.next();
    await expect.poll(() => print).toBeDefined();
    print?.(`: hello\n\n${output('1')}`);
    expect((await first).value).toEqual({ type: 'output', stream: 'stdout', data: '1' });
    const second = events.next();
    print?.(`event: news\ndata: ignored\n\n${result}`);
    expect((await second).value).toEqual({ type: 'result', ...END });
    expect((await events.next()).done).toBe(true);
  });

  test('cut before its result rejects, and says that code ran once it saw output', async () => {
    for (const [sent, started] of [
      ['', 'unknown'],
      [': only a comment\n\n', 'unknown'],
      [output('1'), 'yes'],
      [output('1') + result.slice(0, -2), 'yes'],
    ] as const) {
      for (const cut of [
        (response: ServerResponse) => response.destroy(),
        (response: ServerResponse) => response.end(),
      ]) {
        const { podgate } = await start((_request, response) => {
          openEvents(response).flushHeaders();
          response.write(sent || ':', () => setImmediate(cut, response));
        });
        const failed = await rejection(collect(podgate.stream('x')));
        expect(failed).toMatchObject({ code: 'connection_lost', started, retryable: false });
      }
    }
  });

  test.for([
    ['an idempotency key', 'x', { idempotencyKey: 'once' }],
    ['detach', { code: 'x', detach: true }, {}],
  ] as const)(
    'of an execution with %s goes on behind the last event that came',
    async ([, request, options]) => {
      const { podgate, requests } = await start(({ method }, response) => {
        response.setHeader('Podgate-Execution-Id', 'e1');
        openEvents(response);
        if (method === 'POST')
          response.write(`id: 1.0\n${output('1')}`, () => setImmediate(() => response.destroy()));
        else if (requests.length === 2) response.destroy();
        else response.end(`id: 2.0\n${output('2')}id: 2.0\n${result}`);
      });
      const seen = await collect(podgate.stream(request, options));
      expect(seen.map((event) => (event.type === 'output' ? event.data : event.type))).toEqual([
        '1',
        '2',
        'result',
      ]);
      expect(requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
        'POST /v1/execute/stream',
        'GET /v1/executions/e1/events',
        'GET /v1/executions/e1/events',
      ]);
      expect(requests.at(-1)?.headers['last-event-id']).toBe('1.0');
    },
  );

  test('of a session with an idempotency key sends it, and goes on behind the last event that came', async () => {
    const { podgate, requests } = await start(({ method }, response) => {
      response.setHeader('Podgate-Execution-Id', 'e1');
      openEvents(response);
      if (method === 'POST')
        response.write(`id: 1.0\n${output('1')}`, () => setImmediate(() => response.destroy()));
      else response.end(`id: 2.0\n${output('2')}id: 2.0\n${result}`);
    });
    const session = podgate.sessions.open('s');
    const keyed = { idempotencyKey: 'once' };
    for (const [path, events] of [
      ['bash', session.bashStream('x', keyed)],
      ['execute', session.stream('x', keyed)],
    ] as const) {
      const seen = [];
      for await (const event of events) seen.push(event.type === 'output' ? event.data : event.type);
      expect(seen).toEqual(['1', '2', 'result']);
      const [asked, again] = requests.slice(-2);
      expect([asked?.url, asked?.headers['idempotency-key']]).toEqual([
        `/v1/sessions/s/${path}/stream`,
        'once',
      ]);
      expect([again?.url, again?.headers['last-event-id']]).toEqual(['/v1/executions/e1/events', '1.0']);
    }
  });

  test.for([
    ['cut', (response: ServerResponse) => response.destroy()],
    ['ended in order', (response: ServerResponse) => response.end(failed('draining', 'unknown'))],
    ['refused in order', (response: ServerResponse) => answer(response, 503, problem('draining'), NOW)],
  ] as const)(
    'of an execution whose gateway shuts down goes on elsewhere, its first attempt %s',
    async ([, leave]) => {
      const { podgate, requests } = await start(({ method }, response) => {
        response.setHeader('Podgate-Execution-Id', 'e1');
        if (method === 'POST')
          openEvents(response).end(`id: 1.0\n${output('1')}${failed('draining', 'yes')}`);
        else if (requests.length === 2) leave(response);
        else openEvents(response).end(`id: 2.0\n${output('2')}id: 2.0\n${result}`);
      });
      const seen = await collect(podgate.stream('x', { idempotencyKey: 'once' }));
      expect(seen.map((event) => (event.type === 'output' ? event.data : event.type))).toEqual([
        '1',
        '2',
        'result',
      ]);
      expect(requests.at(-1)?.headers['last-event-id']).toBe('1.0');
    },
  );

  test('whose gateway shuts down before anything began, or that has no id, rejects at once', async () => {
    for (const [told, options] of [
      ['no', { idempotencyKey: 'once' }],
      ['yes', {}],
    ] as const) {
      const { podgate, requests } = await start((_request, response) => {
        response.setHeader('Podgate-Execution-Id', 'e1');
        openEvents(response).end(failed('draining', told));
      });
      const error = await rejection(collect(podgate.stream('x', options)));
      expect([error.code, error.started, requests.length]).toEqual(['draining', told, 1]);
    }
  });

  test('that began and is told of nowhere never passes for one that may be sent again', async () => {
    const { podgate } = await start(({ method }, response) => {
      response.setHeader('Podgate-Execution-Id', 'e1');
      if (method === 'POST') openEvents(response).end(failed('draining', 'yes'));
      else answer(response, 503, problem('no_agent'), NOW);
    });
    expect(await rejection(collect(podgate.stream({ code: 'x', detach: true })))).toMatchObject({
      code: 'draining',
      started: 'yes',
      retryable: false,
    });
  });

  test('that began and whose gateway is gone for good says that it began', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    let requests = 0;
    const fetch = async () => {
      requests += 1;
      if (requests > 1) throw new TypeError('fetch failed');
      const headers = { 'Podgate-Execution-Id': 'e1' };
      return new Response(`id: 1.0\n${output('1')}`, { headers });
    };
    const podgate = new Podgate({ baseUrl: 'http://podgate.invalid', fetch });
    const failed = rejection(collect(podgate.stream('x', { idempotencyKey: 'once' })));
    await vi.runAllTimersAsync();
    expect(await failed).toMatchObject({ code: 'connection_lost', started: 'yes' });
    expect(requests).toBeGreaterThan(3);
  });

  test('of events by id says what is gone, and begins where it is told', async () => {
    const gap = 'id: 9.0\nevent: gap\ndata: {"stream":"stdout","from":3,"to":9}\n\n';
    const { podgate, requests } = await start((_request, response) =>
      openEvents(response).end(`${gap}id: 9.0\n${result}`),
    );
    const events = podgate.executions.events('e1', { lastEventId: '3.0' });
    expect((await events.next()).value).toEqual({ type: 'gap', stream: 'stdout', from: 3, to: 9, id: '9.0' });
    expect((await events.next()).value).toMatchObject({ type: 'result', id: '9.0' });
    expect(requests[0]?.headers['last-event-id']).toBe('3.0');
  });

  test('whose events have no numbers is asked for once: it would be told from its beginning again', async () => {
    const { podgate, requests } = await start((_request, response) => {
      response.setHeader('Podgate-Execution-Id', 'e1');
      openEvents(response).write(output('1'), () => setImmediate(() => response.destroy()));
    });
    for (const events of [podgate.executions.events('e1'), podgate.stream('x', { idempotencyKey: 'once' })]) {
      requests.length = 0;
      expect((await events.next()).value).toMatchObject({ type: 'output', data: '1' });
      expect(await rejection(events.next())).toMatchObject({ code: 'connection_lost', started: 'yes' });
      expect(requests).toHaveLength(1);
    }
  });

  test('that ends in an error rejects with it', async () => {
    const failure = { message: 'The agent was lost', code: 'agent_lost', started: 'yes' };
    const { podgate } = await start((_request, response) =>
      openEvents(response).end(`${output('1')}event: error\ndata: ${JSON.stringify(failure)}\n\n`),
    );
    const seen: StreamEvent[] = [];
    const read = async () => {
      for await (const event of podgate.stream('x')) seen.push(event);
    };
    const failed = await rejection(read());
    expect(failed).toMatchObject({
      message: failure.message,
      code: 'agent_lost',
      started: 'yes',
      retryable: false,
    });
    expect(seen).toHaveLength(1);
  });

  test.for([
    'event: output\ndata: {"stream":"stdout"}\n\n',
    'event: output\ndata: {"stream":"stdin","data":"x"}\n\n',
    'event: output\ndata: not json\n\n',
    'event: result\ndata: 7\n\n',
    'event: error\ndata: {}\n\n',
  ])('that says %j rejects', async (events) => {
    const { podgate } = await start((_request, response) => openEvents(response).end(events + result));
    expect(await rejection(collect(podgate.stream('x')))).toMatchObject({ code: 'malformed_answer' });
  });

  test('that is refused rejects as execute does, after trying again', async () => {
    const { podgate, requests } = await start((_request, response, count) => {
      if (count === 1) answer(response, 503, problem('at_capacity'), { 'Retry-After': '0' });
      else answer(response, 404, problem('no_cluster', { retryable: false }));
    });
    expect(await rejection(collect(podgate.stream('x')))).toMatchObject({ code: 'no_cluster', status: 404 });
    expect(requests).toHaveLength(2);
  });

  test.for(['leaves the loop', 'aborts'])('lets go of the connection when its reader %s', async (how) => {
    const closed = Promise.withResolvers<void>();
    const { podgate } = await start((_request: IncomingMessage, response: ServerResponse) => {
      openEvents(response).write(output('1'));
      void once(response, 'close').then(() => closed.resolve());
    });
    const leaving = new AbortController();
    const read = async () => {
      for await (const event of podgate.stream('x', { signal: leaving.signal })) {
        expect(event.type).toBe('output');
        if (how === 'aborts') leaving.abort(new Error('enough'));
        else break;
      }
    };
    if (how === 'aborts') await expect(read()).rejects.toThrow('enough');
    else await read();
    await closed.promise;
  });
});

describe('server-sent events', () => {
  const read = async (chunks: Uint8Array[]) => {
    const events: [string, string][] = [];
    for await (const { event, data } of readServerSentEvents(ReadableStream.from(chunks)))
      events.push([event, data]);
    return events;
  };
  const encode = (text: string) => new TextEncoder().encode(text);

  test('are read as the standard says', async () => {
    const source = [
      '\ufeff:comment\n',
      'event: a\r\ndata: 1\r\n\r\n',
      'event:b\rdata: 2\r\r',
      'data: x\ndata\ndata:  y\nid: 7\nretry: 1\nnothing\n\n',
      'event: without data\n\n',
      'data: 😀\n\n',
      'data: cut off',
    ].join('');
    const events = [
      ['a', '1'],
      ['b', '2'],
      ['message', 'x\n\n y'],
      ['message', '😀'],
    ];
    expect(await read([encode(source)])).toEqual(events);
    expect(await read(Array.from(encode(source), (byte) => Uint8Array.of(byte)))).toEqual(events);
  });

  test('are the same wherever chunks break', async () => {
    const line = fc.constantFrom('\n', '\r', '\r\n');
    const data = fc.string({ unit: 'grapheme', maxLength: 20 }).map((text) => text.replace(/[\r\n]/g, ''));
    const sent = fc.array(fc.tuple(data, line), { maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(sent, fc.array(fc.nat()), async (events, cuts) => {
        const bytes = encode(
          events.map(([text, end]) => `:c${end}event: e${end}data: ${text}${end}${end}`).join(''),
        );
        const places = [
          0,
          ...cuts.map((cut) => cut % (bytes.byteLength + 1)).sort((a, b) => a - b),
          bytes.byteLength,
        ];
        const chunks = places.slice(1).map((end, index) => bytes.slice(places[index], end));
        expect(await read(chunks)).toEqual(events.map(([text]) => ['e', text]));
      }),
    );
  });

  test('of no end are refused, not held', async () => {
    async function* endless() {
      for (;;) yield new Uint8Array(1_048_576).fill(97);
    }
    const events = readServerSentEvents(ReadableStream.from(endless()));
    await expect(events.next()).rejects.toMatchObject({ code: 'malformed_answer' });
  });
});
