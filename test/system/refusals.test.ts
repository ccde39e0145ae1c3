import { expect, test } from 'vitest';
import type { ExecuteResult } from '../../client/types.ts';
import type { Problem } from '../../shared/errors.ts';
import { describeStack } from './suite.ts';

const MIB = 1_048_576;

describeStack('A request that cannot be', {}, (stack) => {
  const refusal = async (body: unknown, headers: Record<string, string> = {}) => {
    const response = await stack().post('/v1/execute', body, headers);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    const problem = (await response.json()) as Problem;
    expect(problem).toMatchObject({
      status: response.status,
      type: `urn:podgate:error:${problem.code}`,
      title: expect.any(String),
      detail: expect.any(String),
      retryable: expect.any(Boolean),
      request_id: response.headers.get('x-request-id'),
    });
    expect(JSON.stringify(problem)).not.toMatch(/\.ts|node_modules|\/work|at \w+ \(/);
    return problem;
  };
  const places = ({ errors = [] }: Problem) => [...new Set(errors.map(({ path }) => path))];

  test.each([
    ['no JSON', '{"code": 1'],
    ['nothing', ''],
    ['not an object', '[]'],
    ['null', 'null'],
    ['too deep', `{"code":"1","x":${'['.repeat(100)}${']'.repeat(100)}}`],
    ['a lone surrogate', '{"code":"\\ud800"}'],
    ['no code', '{}'],
    ['code of another type', '{"code":["print(1)"]}'],
  ])('because it is %s is a 422 that says where', async (_, text) => {
    const problem = await refusal(text);
    expect([problem.status, problem.code, problem.retryable]).toEqual([422, 'invalid_request', false]);
    expect(problem.errors?.length).toBeGreaterThan(0);
  });

  test.each(['"2000"', '2.5', 'true', 'null', '0', '-1', '1e99', '[]'])(
    'because timeout_ms is %s is a 422: integers are strict',
    async (value) => {
      const problem = await refusal(`{"code":"1","timeout_ms":${value}}`);
      expect([problem.status, places(problem)]).toEqual([422, ['timeout_ms']]);
    },
  );

  test('because it asks for more time than there is says how much there is', async () => {
    const problem = await refusal({ code: '1', timeout_ms: 60_001 });
    expect(problem.errors).toEqual([
      { path: 'timeout_ms', message: 'timeout_ms exceeds maximum of 60000 ms' },
    ]);
    expect((await stack().post('/v1/execute', { code: '1', timeout_ms: 60_000 })).status).toBe(200);
  });

  test('because it is larger than 16 MiB is a 413 once it has been read', async () => {
    const problem = await refusal({ code: '1', stdin: 'x'.repeat(17 * MIB) });
    expect([problem.status, problem.code]).toEqual([413, 'too_large']);
  });

  test.each([
    [{ cluster: 'nowhere' }, 404, 'no_cluster'],
    [{ template: 'none' }, 404, 'no_template'],
    [{ language: 'cobol' }, 422, 'invalid_request'],
    [{ last_line_interactive: 'yes' }, 422, 'invalid_request'],
    [{ stdin: 5 }, 422, 'invalid_request'],
    [{ args: ['a\0'] }, 422, 'invalid_request'],
    [{ env: { 'A=B': 'x' } }, 422, 'invalid_request'],
    [{ env: { A: 'x'.repeat(200_000) } }, 422, 'invalid_request'],
    [{ queue_timeout_ms: -1 }, 422, 'invalid_request'],
    [
      { files: Array.from({ length: 1_001 }, (_, n) => ({ path: `f${n}`, content: '' })) },
      422,
      'invalid_request',
    ],
    [{ detach: 'yes' }, 422, 'invalid_request'],
  ])('because of %j is refused before anything runs', async (part, status, code) => {
    const before = stack().log.length;
    expect(await refusal({ code: 'print("ran")', ...part })).toMatchObject({ status, code });
    expect(
      stack()
        .log.slice(before)
        .filter(({ event }) => event === 'execution'),
    ).toEqual([]);
  });

  test('by its route is a 404 or a 405 with Allow', async () => {
    expect((await stack().fetch('/v2/execute')).status).toBe(404);
    const get = await stack().fetch('/v1/execute');
    expect([get.status, get.headers.get('allow')]).toEqual([405, expect.stringContaining('POST')]);
  });
});

describeStack('A key', {}, (stack) => {
  const asked = async (headers: Record<string, string>, path = '/v1/execute') => {
    const response = await fetch(stack().url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ code: 'print(1)' }),
    });
    const body = (await response.json()) as Partial<ExecuteResult & Problem>;
    return { ...body, status: response.status };
  };
  const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');

  test('is taken as Bearer, as X-API-Key and as the password of a URL', async () => {
    const key = stack().ownKey;
    const basic = Buffer.from(`key:${key}`).toString('base64');
    for (const headers of [
      { authorization: `Bearer ${key}` },
      { 'x-api-key': key },
      { authorization: `Basic ${basic}` },
      { authorization: `Bearer ${key}`, 'x-api-key': key },
    ])
      expect(await asked(headers)).toMatchObject({ status: 200, stdout: '1\n' });
  });

  test('that is missing, broken, forged, of an agent, or one of two is a 401 that says no more', async () => {
    const [header = '', claims = '', signature = ''] = stack().ownKey.split('.');
    const read = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString());
    const unsigned = `${encoded({ ...read(header), alg: 'none' })}.${claims}.`;
    const widened = `${header}.${encoded({ ...read(claims), sub: 'root' })}.${signature}`;
    const agentToken = (await stack().agentToken('local'))
      .split('.')
      .slice(0, 3)
      .join('.')
      .replace(/^podgate_agent_/, '');
    const other = await stack().key();
    const answers = await Promise.all([
      asked({}),
      asked({ authorization: 'Bearer nonsense' }),
      asked({ authorization: `Bearer ${unsigned}` }),
      asked({ authorization: `Bearer ${widened}` }),
      asked({ authorization: `Bearer ${agentToken}` }),
      asked({ authorization: `Bearer ${stack().ownKey}`, 'x-api-key': other }),
      asked({ authorization: `Bearer ${await stack().key({ lifetimeSeconds: -60 })}` }),
    ]);
    for (const answer of answers)
      expect(answer).toMatchObject({ status: 401, code: 'unauthorized', retryable: false });
    // No answer tells which fault it was.
    expect(new Set(answers.map(({ detail }) => detail)).size).toBeLessThanOrEqual(2);
  });

  test('without the scope is a 403', async () => {
    const key = await stack().key({ scopes: ['files'] });
    expect(await asked({ authorization: `Bearer ${key}` })).toMatchObject({ status: 403, code: 'forbidden' });
  });
});

describeStack('A gateway', {}, (stack) => {
  test('says without a key that it is well, since when it may have sessions, and what it can do', async () => {
    const health = await fetch(`${stack().url}/health`);
    expect([health.status, await health.json()]).toEqual([
      200,
      { status: 'ok', message: null, version: '0.5.0' },
    ]);
    expect((await fetch(`${stack().url}/ready`)).status).toBe(200);
    const openapi = (await (await fetch(`${stack().url}/openapi.json`)).json()) as { paths: object };
    expect(Object.keys(openapi.paths)).toEqual(
      expect.arrayContaining([
        '/v1/execute',
        '/v1/execute/stream',
        '/v1/files',
        '/v1/clusters',
        '/v1/sessions',
      ]),
    );
  });

  test('answers for sessions in the order of the contract: 422, 404, and then makes one', async () => {
    const statuses = [];
    for (const body of [{ ttl_seconds: 0 }, { files: [{ path: 'a', file_id: crypto.randomUUID() }] }, {}])
      statuses.push((await stack().post('/v1/sessions', body)).status);
    expect(statuses).toEqual([422, 404, 201]);
  });
});
