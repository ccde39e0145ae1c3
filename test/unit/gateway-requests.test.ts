import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { DISCARD_BOUNDS } from '../../gateway/http/discard.ts';
import { jsonExcess, parseJson } from '../../gateway/http/parse-json.ts';
import { problemResponse } from '../../gateway/http/problem-response.ts';
import { EAGER_BODY_BYTES } from '../../gateway/http/read-body.ts';
import { problem } from '../../shared/api.ts';
import { Failure, isErrorCode } from '../../shared/errors.ts';
import {
  MAX_ENV_VARIABLES,
  MAX_JSON_COMMAS,
  MAX_JSON_DEPTH,
  MAX_NAME_BYTES,
  MAX_PATH_BYTES,
  MAX_REQUEST_BYTES,
  MAX_REQUEST_FILES,
} from '../../shared/limits.ts';
import { filePath } from '../../shared/request-fields.ts';
import { ALL_SCOPES, createGatewayBench, type GatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import type { MockAgent } from '../fakes/mock-agent.ts';
import { until } from '../fakes/until.ts';

let bench: GatewayBench;
let agent: MockAgent;
beforeAll(async () => {
  bench = await createGatewayBench();
  agent = await bench.agent({ run: (execution) => execution.succeed() });
});

const starts = () => agent.received.filter(({ name }) => name === 'START').length;
const post = (body: object | string | Uint8Array<ArrayBuffer>) => bench.ask('/v1/execute', { body });

describe('a request that is not valid', () => {
  const timeout = 'timeout_ms exceeds maximum of 60000 ms';
  test.for<[object, string, string]>([
    [{}, 'code', 'code: Invalid input: expected string, received undefined'],
    [{ code: 1 }, 'code', 'code: Invalid input: expected string, received number'],
    [{ code: '', stdin: 1 }, 'stdin', 'stdin: Invalid input: expected string, received number'],
    [
      { code: '', timeout_ms: '1' },
      'timeout_ms',
      'timeout_ms: Invalid input: expected number, received string',
    ],
    [{ code: '', timeout_ms: 1.5 }, 'timeout_ms', 'timeout_ms: Invalid input: expected int, received number'],
    [
      { code: '', timeout_ms: true },
      'timeout_ms',
      'timeout_ms: Invalid input: expected number, received boolean',
    ],
    [{ code: '', timeout_ms: 0 }, 'timeout_ms', 'timeout_ms: Too small: expected number to be >=1'],
    [{ code: '', timeout_ms: 60_001 }, 'timeout_ms', timeout],
    [{ code: '', timeout_ms: 2 ** 53 }, 'timeout_ms', timeout],
    [{ code: '', timeout_ms: 1e300 }, 'timeout_ms', timeout],
    [{ code: '', timeout_ms: -(2 ** 53) }, 'timeout_ms', 'timeout_ms: Too small: expected number to be >=1'],
    [
      { code: '', last_line_interactive: 1 },
      'last_line_interactive',
      'last_line_interactive: Invalid input: expected boolean, received number',
    ],
    [{ code: '', files: [{ path: '/a', file_id: 'x' }] }, 'files.0.path', 'File paths must be relative.'],
    [
      { code: '', files: [{ path: 'a/../b', file_id: 'x' }] },
      'files.0.path',
      "File paths must not contain '..'.",
    ],
    [{ code: '', files: [{ path: '', file_id: 'x' }] }, 'files.0.path', 'File path must not be empty.'],
    [{ code: '', files: [{ path: '.', file_id: 'x' }] }, 'files.0.path', 'File path must not be empty.'],
    [
      { code: '', files: [{ path: './__main__.py', file_id: 'x' }] },
      'files.0.path',
      "File path '__main__.py' is reserved for the execution entrypoint.",
    ],
    [
      { code: '', language: 'bash', files: [{ path: './__main__.sh', content: '' }] },
      'files.0.path',
      "File path '__main__.sh' is reserved for the execution entrypoint.",
    ],
    [
      { code: '', files: [{ path: 'a' }] },
      'files.0',
      'files.0: give exactly one of file_id, content and content_base64',
    ],
    [
      { code: '', language: 'cobol' },
      'language',
      'language: Invalid option: expected one of "python"|"bash"|"node"',
    ],
    [{ code: '\ud800' }, 'code', 'code: must be valid Unicode: a lone surrogate has no UTF-8 form'],
    [
      { code: '', env: { 'A=B': '' } },
      'env.A=B',
      "env.A=B: names must not be empty, contain '=' or NUL, or be invalid Unicode",
    ],
    [
      { code: '', env: { '': '' } },
      'env.',
      "env.: names must not be empty, contain '=' or NUL, or be invalid Unicode",
    ],
    [
      { code: '', files: [{ path: 'a\0b', content: '' }] },
      'files.0.path',
      'files.0.path: must not contain NUL',
    ],
    [JSON.parse('{"code":"","env":{"__proto__":"x"}}'), 'env', "env must not name '__proto__'"],
    [{ code: '', cluster: 'Lab A' }, 'cluster', 'cluster: use 1 to 63 of a-z, 0-9 and -'],
    [
      { code: '', queue_timeout_ms: -1 },
      'queue_timeout_ms',
      'queue_timeout_ms: Too small: expected number to be >=0',
    ],
  ])('%j is a 422 that names %s, and begins nothing', async ([body, path, detail]) => {
    const before = starts();
    for (const route of ['/v1/execute', '/v1/execute/stream']) {
      const response = await bench.ask(route, { body });
      const answer = problem.parse(await problemOf(response));
      expect(answer).toMatchObject({ status: 422, code: 'invalid_request', retryable: false, detail });
      expect(answer.errors?.[0]?.path).toBe(path);
      expect(new Set(answer.errors?.map((error) => JSON.stringify(error))).size).toBe(answer.errors?.length);
    }
    await bench.clock.settle();
    expect(starts()).toBe(before);
  });

  test.each([
    ['{"code":"","timeout_ms":1000.0}', 'timeout_ms'],
    ['{"timeout_ms" : 1e3,"code":""}', 'timeout_ms'],
    ['{"code":"","queue_timeout_ms":\n5000.00}', 'queue_timeout_ms'],
    ['{"meta":{"ttl_seconds":1.0},"code":"1","timeout_ms":1000.0}', 'timeout_ms'],
    ['{"meta":[{"timeout_ms":1}],"code":"\\"}","timeout_ms":1000.0}', 'timeout_ms'],
    ['{"code":"","timeout\\u005fms":1000.0}', 'timeout_ms'],
    ['{"code":"","\\u0074imeout_m\\u0073":1E3}', 'timeout_ms'],
    ['{"code":"","timeout_ms":1000,"timeout_ms":1000.0}', 'timeout_ms'],
    ['{"code":"","timeout_ms":1000,"timeout\\u005fms":1000.0}', 'timeout_ms'],
  ])('%s holds a number that is no integer to a strict reader', async (body, path) => {
    expect(await problemOf(await post(body))).toMatchObject({
      status: 422,
      detail: `${path}: Invalid input: expected int, received number`,
      errors: [{ path }],
    });
  });

  test.for([
    '{"code":"1","timeout_ms":1000,"meta":{"timeout_ms":1.5}}',
    '{"code":"1","timeout_ms":1000,"meta":[{"timeout_ms":1000.0}]}',
    '{"meta":{"timeout_ms":1000.0},"code":"1"}',
    '{"code":"1","timeout_ms":1000.0,"timeout_ms":1000}',
    '{"code":"1","timeout\\u005fms":1000.0,"timeout_ms":1000}',
    '{"code":"1","timeout_ms_":1000.0,"a\\"timeout_ms":1.0,"\\\\":1.0}',
    '{"code":"1","meta":"timeout_ms","x":1.0}',
  ])('%s holds integers where they are wanted', async (body) => {
    expect((await post(body)).status).toBe(200);
  });

  test('is judged by its own members alone, however they are spelled and nested', async () => {
    const spelt = fc.constantFrom('timeout_ms', 'timeout\\u005fms', 'time\\u006fut_ms', 'x', '"timeout_ms');
    const number = fc.constantFrom('1000', '1000.0', '1e3', '10.0E2');
    const nested = fc.json({ maxDepth: 2 });
    const members = fc.array(
      fc.oneof(
        fc.tuple(spelt, number),
        fc.tuple(
          fc.constant('meta'),
          number.map((text) => `{"timeout_ms":${text}}`),
        ),
        fc.tuple(fc.constant('other'), nested),
      ),
    );
    fc.assert(
      fc.property(members, (given) => {
        const named = given.map(([name, text]) => [name.replaceAll('"', '\\"'), text] as const);
        const text = `{${named.map(([name, value]) => `"${name}":${value}`).join(',')}}`;
        const own = named.findLast(([name]) => JSON.parse(`"${name}"`) === 'timeout_ms')?.[1];
        const parse = () => parseJson(new TextEncoder().encode(text));
        if (own === undefined || own === '1000') expect(parse()).toEqual(JSON.parse(text));
        else expect(parse).toThrow('timeout_ms: Invalid input: expected int');
      }),
    );
  });

  test.for([
    ['colons', `{"\\u0061"${':'.repeat(10_000)}`, 1],
    ['names that no comma parts', `{${'"\\\\":'.repeat(10_000)}`, 1],
    ['objects that no comma parts', '{"\\\\":}'.repeat(10_000), 1],
    ['names behind what is nested', '{"a":{"b":1,"c":2},"d":[3,{"e":4}],"f":5}', 3],
  ] as const)('names no more members than its commas part: %s', ([, text, members]) => {
    let named = 0;
    jsonExcess(text, () => {
      named += 1;
    });
    expect(named).toBe(members);
  });

  test('is not one for what its strings hold', async () => {
    const code = '{"timeout_ms": 1.0}';
    expect((await post({ code, stdin: '"timeout_ms":1.0', timeout_ms: 1_000 })).status).toBe(200);
    expect((await post({ code, limits: { memory_mb: null } })).status).toBe(200);
  });

  test('at each limit is accepted, and one past it is not', async () => {
    expect((await post({ code: '', timeout_ms: 60_000 })).status).toBe(200);
    expect((await post({ code: '', timeout_ms: 1 })).status).toBe(200);
    const files = (count: number) =>
      Array.from({ length: count }, (_, n) => ({ path: `f${n}`, content: '' }));
    expect((await post({ code: '', files: files(MAX_REQUEST_FILES) })).status).toBe(200);
    expect((await post({ code: '', files: files(MAX_REQUEST_FILES + 1) })).status).toBe(422);
    const env = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`V${n}`, '']));
    expect((await post({ code: '', env: env(MAX_ENV_VARIABLES) })).status).toBe(200);
    expect((await problemOf(await post({ code: '', env: env(MAX_ENV_VARIABLES + 1) }))).errors).toEqual([
      { path: 'env', message: `env must not hold more than ${MAX_ENV_VARIABLES} variables` },
    ]);
    const nested = (depth: number) => `{"code":"","x":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
    expect((await post(nested(MAX_JSON_DEPTH))).status).toBe(200);
    expect(await problemOf(await post(nested(MAX_JSON_DEPTH + 1)))).toMatchObject({
      status: 422,
      detail: `The request body is nested more than ${MAX_JSON_DEPTH} deep.`,
    });
    expect((await post({ code: '"[{'.repeat(500) })).status).toBe(200);
    expect((await post({ code: '\\"'.repeat(501) })).status).toBe(200);
  });

  test('is refused before each of its parts is checked, however many or long they are', async () => {
    const names = (count: number) => {
      const pairs = Array.from({ length: count }, (_, n) => `"a${n}":1`);
      return `{"code":"","x":{${pairs.join(',')}}}`;
    };
    // One comma stands between the members of the body itself.
    expect((await post(names(MAX_JSON_COMMAS))).status).toBe(200);
    expect((await problemOf(await post(names(MAX_JSON_COMMAS + 1)))).errors).toEqual([
      { path: '', message: `The request body holds more than ${MAX_JSON_COMMAS} values.` },
    ]);
    expect((await post({ code: '#,'.repeat(MAX_JSON_COMMAS + 1) })).status).toBe(200);
    const path = `${'./'.repeat(MAX_PATH_BYTES)}a`;
    const tooLong = await problemOf(await post({ code: '', files: [{ path, content: '' }] }));
    expect(tooLong.errors).toEqual([
      { path: 'files.0.path', message: `File paths must not exceed ${MAX_PATH_BYTES} bytes.` },
    ]);
  });

  test.for(['', '{', '{"code":"a"', 'nul', "{'code':1}", '{"code":"a"} x', '[]', '"code"', '1'])(
    'is JSON that is none, or no object: %j',
    async (body) => {
      const answer = await problemOf(await post(body));
      expect(answer).toMatchObject({ status: 422, code: 'invalid_request' });
      expect(answer.errors).toHaveLength(1);
    },
  );

  test('is JSON that is not UTF-8', async () => {
    const body = new Uint8Array([...Buffer.from('{"code":"'), 0xff, ...Buffer.from('"}')]);
    for (const bytes of [body, new Uint8Array(gzipSync('{"code":""}'))]) {
      expect(await problemOf(await post(bytes))).toMatchObject({
        status: 422,
        detail: 'The request body is not UTF-8: send it as it is, uncompressed.',
      });
    }
  });

  test('is JSON that is millions of brackets deep, and costs nothing', async () => {
    expect((await post('['.repeat(8_000_000))).status).toBe(422);
  });

  test('is accepted whatever its content type says', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=x']) {
      const response = await bench.ask('/v1/execute', {
        headers: { 'content-type': type },
        body: { code: '' },
      });
      expect(response.status).toBe(200);
    }
  });
});

describe('a body that is too large', () => {
  /** A body that is made as it is read. */
  function endless(bytes: number, onPull: (sent: number) => void = () => {}): ReadableStream<Uint8Array> {
    let sent = 0;
    const chunk = new Uint8Array(1_048_576).fill(0x20);
    return new ReadableStream({
      pull(controller) {
        if (sent >= bytes) return controller.close();
        const size = Math.min(chunk.byteLength, bytes - sent);
        sent += size;
        onPull(sent);
        controller.enqueue(chunk.subarray(0, size));
      },
    });
  }

  async function send(bytes: number, onPull?: (sent: number) => void): Promise<Response> {
    const key = await bench.key();
    return bench.gateway.fetch(
      new Request('http://gate.example/v1/execute', {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: endless(bytes, onPull),
        duplex: 'half',
      } as RequestInit),
    );
  }

  test('is read to its end, not kept, and answered with 413', async () => {
    let read = 0;
    const response = await send(MAX_REQUEST_BYTES + 5_000_000, (sent) => {
      read = sent;
    });
    expect(await problemOf(response)).toMatchObject({
      status: 413,
      code: 'too_large',
      detail: `The request body exceeds maximum of ${MAX_REQUEST_BYTES} bytes.`,
    });
    expect(read).toBe(MAX_REQUEST_BYTES + 5_000_000);
    expect(bench.gateway.status().requestBytes).toBe(0);
  });

  test('at the limit is not', async () => {
    // Blanks are JSON up to where something is missing.
    expect((await send(MAX_REQUEST_BYTES)).status).toBe(422);
  });

  test('that stops coming is answered all the same', async () => {
    const never = new ReadableStream({
      start: (controller) => controller.enqueue(new Uint8Array(MAX_REQUEST_BYTES + 1)),
      pull: () => new Promise(() => {}),
    });
    const key = await bench.key();
    const timers = bench.clock.pending;
    const answer = bench.gateway.fetch(
      new Request('http://gate.example/v1/execute', {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: never,
        duplex: 'half',
      } as RequestInit),
    );
    await until(() => bench.clock.pending > timers);
    await bench.clock.advance(DISCARD_BOUNDS.maxMs);
    expect((await answer).status).toBe(413);
  });

  test('that comes slowly holds what has come, and not what it spoke of', async () => {
    let end: () => void = () => {};
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new Uint8Array(1_000));
        end = () => controller.close();
      },
    });
    const answer = bench.gateway.fetch(
      new Request('http://gate.example/v1/execute', {
        method: 'POST',
        headers: {
          authorization: `Bearer ${await bench.key()}`,
          'content-length': String(MAX_REQUEST_BYTES),
        },
        body,
        duplex: 'half',
      } as RequestInit),
    );
    await expect.poll(() => bench.gateway.status().requestBytes).toBe(1_000);
    end();
    expect((await answer).status).toBe(422);
    expect(bench.gateway.status().requestBytes).toBe(0);
  });

  test.for([EAGER_BODY_BYTES, EAGER_BODY_BYTES + 1])('of %d bytes is read whole', async (bytes) => {
    const code = 'x'.repeat(bytes - '{"code":""}'.length);
    expect((await post({ code })).status).toBe(200);
  });

  test('of one key takes a share of the memory and no more', async () => {
    const waiting = Array.from({ length: 4 }, () => {
      let end: () => void = () => {};
      const body = new ReadableStream({
        start(controller) {
          controller.enqueue(new Uint8Array(MAX_REQUEST_BYTES - 1));
          end = () => controller.close();
        },
      });
      return { body, end: () => end() };
    });
    const ask = async (sub: string, body: ReadableStream | string) =>
      bench.gateway.fetch(
        new Request('http://gate.example/v1/execute', {
          method: 'POST',
          headers: { authorization: `Bearer ${await bench.key({ sub })}` },
          body,
          duplex: 'half',
        } as RequestInit),
      );
    const answers = waiting.map(({ body }) => ask('greedy', body));
    await expect.poll(() => bench.gateway.status().requestBytes).toBe(4 * (MAX_REQUEST_BYTES - 1));
    expect(await problemOf(await ask('greedy', '{"code":"more"}'))).toMatchObject({ code: 'rate_limited' });
    expect((await ask('modest', '{"code":""}')).status).toBe(200);
    for (const { end } of waiting) end();
    for (const answer of answers) expect((await answer).status).toBe(422);
    expect(bench.gateway.status().requestBytes).toBe(0);
  });
});

describe('paths and methods', () => {
  test.for(['/', '/v2/execute', '/v1', '/v1/executeX', '/clusters/lab', '/clusters/lab/health', '/metrics'])(
    '%s is nothing',
    async (path) => {
      expect(await problemOf(await bench.ask(path))).toMatchObject({ status: 404, code: 'not_found' });
    },
  );

  test('below a base URL that ends as those of other APIs do say so', async () => {
    const { detail } = await problemOf(await bench.ask('/v1/v1/execute'));
    expect(detail).toBe('There is nothing here. The base URL of a gateway is without /v1.');
  });

  test.for([
    ['/health', 'POST', 'GET, HEAD, OPTIONS'],
    ['/v1/execute', 'GET', 'POST, OPTIONS'],
    ['/v1/execute', 'PUT', 'POST, OPTIONS'],
    ['/clusters/lab/v1/execute', 'GET', 'POST, OPTIONS'],
    ['/v1/executions/x', 'POST', 'GET, DELETE, HEAD, OPTIONS'],
    ['/v1/files', 'PUT', 'POST, GET, HEAD, OPTIONS'],
    ['/v1/files/x', 'POST', 'GET, DELETE, HEAD, OPTIONS'],
    ['/v1/sessions', 'PUT', 'POST, GET, HEAD, OPTIONS'],
  ] as const)('%s does not know %s', async ([path, method, allow]) => {
    const response = await bench.ask(path, { method });
    expect(response.headers.get('allow')).toBe(allow);
    expect(await problemOf(response)).toMatchObject({ status: 405, code: 'method_not_allowed' });
    const options = await bench.ask(path, { method: 'OPTIONS', key: null });
    expect([options.status, options.headers.get('allow')]).toEqual([204, allow]);
    expect(options.headers.get('access-control-allow-origin')).toBeNull();
  });

  test('HEAD is GET without a body', async () => {
    const response = await bench.ask('/health', { method: 'HEAD' });
    expect([response.status, await response.text()]).toEqual([200, '']);
  });

  test('the agents’ endpoint is for WebSockets', async () => {
    expect((await bench.ask('/v1/agents/link', { key: null })).status).toBe(422);
  });

  test('no answer is one that a cache on the way may give to the next key', async () => {
    const form = new FormData();
    form.append('file', new Blob(['x']), 'x');
    const stored = await bench.ask('/v1/files', { method: 'POST', body: form });
    const { file_id } = (await stored.json()) as { file_id: string };
    const paths = ['/v1/files', `/v1/files/${file_id}`, '/v1/clusters', '/ready', '/nothing'];
    for (const path of paths)
      expect((await bench.ask(path)).headers.get('cache-control'), path).toMatch(/^(private, )?no-store$/);
    expect((await post({ code: '' })).headers.get('cache-control')).toBe('no-store');
  });

  test('every answer has a request id', async () => {
    for (const path of ['/health', '/nothing', '/v1/clusters', '/v1/files'])
      expect((await bench.ask(path)).headers.get('x-request-id')).toBeTruthy();
    const answer = await bench.ask('/nothing', { headers: { 'x-request-id': 'mine' } });
    expect(await problemOf(answer)).toMatchObject({ request_id: 'mine' });
  });
});

describe('keys', () => {
  const guarded = [
    ['POST', '/v1/execute', 'execute'],
    ['POST', '/v1/execute/stream', 'execute'],
    ['POST', '/clusters/lab/v1/execute', 'execute'],
    ['GET', '/v1/executions/x', 'execute or sessions'],
    ['GET', '/v1/executions/x/events', 'execute or sessions'],
    ['DELETE', '/v1/executions/x', 'execute or sessions'],
    ['POST', '/v1/executions/x/signal', 'sessions'],
    ['GET', '/v1/clusters', 'clusters'],
    ['POST', '/v1/files', 'files'],
    ['GET', '/v1/files', 'files'],
    ['GET', '/v1/files/x', 'files'],
    ['DELETE', '/v1/files/x', 'files'],
    ['POST', '/v1/sessions', 'sessions'],
    ['DELETE', '/v1/sessions/x', 'sessions'],
    ['POST', '/v1/sessions/x/bash', 'sessions'],
  ] as const;

  test.for(guarded)('%s %s wants one, with scope %s', async ([method, path, scope]) => {
    const none = await bench.ask(path, { method, key: null });
    expect(none.headers.get('www-authenticate')).toBe('Bearer');
    expect(await problemOf(none)).toMatchObject({ status: 401, code: 'unauthorized' });
    expect((await bench.ask(path, { method, key: 'nonsense' })).status).toBe(401);
    const others = ALL_SCOPES.split(' ').filter((each) => !scope.split(' or ').includes(each));
    const key = await bench.key({ scope: others.join(' ') });
    expect(await problemOf(await bench.ask(path, { method, key }))).toMatchObject({
      status: 403,
      code: 'forbidden',
      detail: 'The key does not allow this.',
    });
  });

  test.for(['/health', '/ready', '/openapi.json'])('%s wants none', async (path) => {
    expect((await bench.ask(path, { key: null })).status).toBe(200);
  });

  test('are checked before the body, the rate after the scope', async () => {
    const oversize = 'x'.repeat(100);
    expect((await bench.ask('/v1/execute', { key: 'bad', body: oversize })).status).toBe(401);
    const key = await bench.key({ sub: 'once', scope: 'execute', limits: { requests_per_minute: 1 } });
    expect((await bench.ask('/v1/clusters', { key })).status).toBe(403);
    expect((await bench.ask('/v1/execute', { key, body: oversize })).status).toBe(422);
    const limited = await bench.ask('/v1/execute', { key, body: oversize });
    expect(Number(limited.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await problemOf(limited)).toMatchObject({ status: 429, code: 'rate_limited', retryable: true });
  });

  test('come before everything else that may be wrong, schema before place, place before files', async () => {
    const wrong = { code: '', cluster: 'nowhere', files: [{ path: 'p', file_id: 'none' }] };
    expect((await bench.ask('/v1/execute', { body: { ...wrong, timeout_ms: 'x' } })).status).toBe(422);
    expect(await problemOf(await post(wrong))).toMatchObject({ code: 'no_cluster' });
    expect(await problemOf(await post({ ...wrong, cluster: 'lab' }))).toMatchObject({ code: 'not_found' });
  });
});

describe('sessions', () => {
  test('are validated, then look for files, then for a place', async () => {
    const ask = (body: object) => bench.ask('/v1/sessions', { body });
    for (const body of [{ ttl_seconds: 0 }, { ttl_seconds: 86_401 }, { ttl_seconds: '9' }, { files: 1 }])
      expect((await ask(body)).status).toBe(422);
    expect(await problemOf(await ask({ files: [{ path: 'p', file_id: 'x' }] }))).toMatchObject({
      status: 404,
      detail: "File with ID 'x' not found for path 'p'.",
    });
    const nowhere = { ttl_seconds: 86_400, cluster: 'nowhere' };
    expect(await problemOf(await ask(nowhere))).toMatchObject({ status: 404, code: 'no_cluster' });
    expect(await problemOf(await ask({ template: 'none' }))).toMatchObject({ code: 'no_template' });
  });

  test('that nobody made are not found', async () => {
    const gone = { status: 404, code: 'not_found', detail: "Session 'abc' not found" };
    expect(await problemOf(await bench.ask('/v1/sessions/abc', { method: 'DELETE' }))).toMatchObject(gone);
    const bash = (body: object) => bench.ask('/v1/sessions/abc/bash', { body });
    expect((await bash({})).status).toBe(422);
    expect((await bash({ cmd: 'ls', timeout_ms: 60_001 })).status).toBe(422);
    expect(await problemOf(await bash({ cmd: 'echo \0' }))).toMatchObject({
      status: 422,
      errors: [{ path: 'cmd', message: 'must not contain NUL' }],
    });
    expect(await problemOf(await bash({ cmd: 'ls' }))).toMatchObject(gone);
  });
});

describe('Idempotency-Key', () => {
  const headers = { 'idempotency-key': 'once' };

  test('is heeded or refused by every route of a POST, and never passed over', async () => {
    const document = (await (await bench.ask('/openapi.json')).json()) as {
      paths: Record<string, { post?: { parameters?: { name: string }[] } }>;
    };
    const posts = Object.entries(document.paths).flatMap(([path, { post }]) =>
      post ? [{ path, post }] : [],
    );
    const heeds = posts.filter(({ post }) => post.parameters?.some(({ name }) => name === 'Idempotency-Key'));
    expect(heeds.map(({ path }) => path)).toEqual([
      '/v1/execute',
      '/v1/execute/stream',
      '/v1/sessions/{id}/bash',
      '/v1/sessions/{id}/bash/stream',
      '/v1/sessions/{id}/execute',
      '/v1/sessions/{id}/execute/stream',
    ]);
    for (const { path, post } of posts) {
      const body = { code: '', cmd: '' };
      const at = path.replace('{id}', 'abc').replace('{name}', 'x');
      const answer = await bench.ask(at, { body, headers: { 'idempotency-key': 'a b' } });
      const isHeeded = heeds.some((each) => each.post === post);
      expect([path, await problemOf(answer)]).toMatchObject([
        path,
        {
          status: 422,
          code: 'invalid_request',
          detail: isHeeded
            ? 'Idempotency-Key is 1 to 255 visible ASCII characters.'
            : 'This route takes no Idempotency-Key: executions do, and bash and execute of a session.',
          errors: [{ path: 'Idempotency-Key' }],
        },
      ]);
    }
  });

  test('of work in a session that is gone is new again', async () => {
    const ask = () => bench.ask('/v1/sessions/abc/bash', { body: { cmd: 'ls' }, headers });
    for (const answer of [await ask(), await ask()])
      expect(await problemOf(answer)).toMatchObject({ status: 404, detail: "Session 'abc' not found" });
  });
});

describe('problem+json', () => {
  const codes = [
    'invalid_request',
    'too_large',
    'malformed_request',
    'headers_too_large',
    'request_timeout',
    'unauthorized',
    'forbidden',
    'policy_denied',
    'not_found',
    'no_cluster',
    'no_template',
    'no_session',
    'range_not_satisfiable',
    'no_language',
    'method_not_allowed',
    'conflict',
    'duplicate',
    'busy',
    'rate_limited',
    'internal',
    'not_implemented',
    'maybe_started',
    'agent_lost',
    'sandbox_lost',
    'runner_error',
    'reader_stalled',
    'deadline_exceeded',
    'stage_failed',
    'no_agent',
    'at_capacity',
    'image_error',
    'quota_exceeded',
    'unschedulable',
    'backend_unavailable',
    'isolation_failed',
    'draining',
    'cancelled',
    'protocol_error',
    'handshake_timeout',
    'replaced',
    'version_mismatch',
  ];

  test.for(codes)('of %s has every member and the headers of its status', async (code) => {
    if (!isErrorCode(code)) throw new Error(`${code} is no code`);
    const response = problemResponse(new Failure(code, 'One sentence.', { retryAfterMs: 1_500 }), 'id-1');
    const body = problem.parse(await response.json());
    expect(response.status).toBe(body.status);
    expect(body).toMatchObject({
      type: `urn:podgate:error:${code}`,
      code,
      detail: 'One sentence.',
      request_id: 'id-1',
    });
    expect(response.headers.get('retry-after')).toBe([429, 503].includes(body.status) ? '2' : null);
    expect('started' in body).toBe(body.status === 502);
    expect(body.errors).toEqual(body.status === 422 ? [{ path: '', message: 'One sentence.' }] : undefined);
  });

  test('of a fault of ours says nothing of the inside', async () => {
    const broken = await createGatewayBench({
      fileStore: (store) => ({
        ...store,
        stat: () => Promise.reject(new Error('ENOENT /srv/secret/path')),
      }),
    });
    await broken.agent();
    const response = await broken.ask('/v1/execute', {
      body: { code: '', files: [{ path: 'p', file_id: crypto.randomUUID() }] },
    });
    const text = await response.text();
    expect(response.status).toBe(500);
    expect(text).not.toMatch(/secret|ENOENT|at /);
    expect(broken.log).toContainEqual(expect.objectContaining({ level: 'error', event: 'internal_error' }));
  });
});

test('a path is measured whole, and of its names only those that may be too long', () => {
  const encode = vi.spyOn(TextEncoder.prototype, 'encode');
  try {
    const long = '€'.repeat(MAX_NAME_BYTES / 3);
    const path = `${'a/'.repeat(1_900)}${long}`;
    expect(filePath.parse(path)).toBe(path);
    expect(encode).toHaveBeenCalledTimes(1);
    expect(filePath.safeParse(`${path}€`).success).toBe(false);
    expect(encode).toHaveBeenCalledTimes(3);
  } finally {
    encode.mockRestore();
  }
});
