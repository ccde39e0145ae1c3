import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { createGatewayBench, type GatewayBench } from '../fakes/gateway-bench.ts';

type Json = Record<string, unknown>;
type Operation = {
  operationId: string;
  summary: string;
  parameters?: Json[];
  requestBody?: { content: Record<string, { schema: Json }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: Json }> }>;
  security: Json[];
};
type Document = {
  openapi: string;
  info: Json;
  paths: Record<string, Record<string, unknown>>;
  components: Json;
};

const METHODS = ['get', 'post', 'put', 'delete'];
const RESULT_OF: Record<string, string> = {
  '/v1/executions/{id}/events': 'ReadResultEvent',
  '/v1/sessions/{id}/bash/stream': 'BashResultEvent',
  '/v1/sessions/{id}/execute/stream': 'PythonResultEvent',
};
let bench: GatewayBench;
let document: Document;
beforeAll(async () => {
  bench = await createGatewayBench({ config: { maxTimeoutMs: 12_345 } });
  const response = await bench.ask('/openapi.json', { key: null });
  expect(response.headers.get('content-type')).toBe('application/json');
  document = (await response.json()) as Document;
});

function operations(): [path: string, method: string, operation: Operation][] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => method in item).map((method): [string, string, Operation] => [
      path,
      method,
      item[method] as Operation,
    ]),
  );
}

describe('/openapi.json', () => {
  test('is OpenAPI 3.1 of this version', () => {
    expect(document).toMatchObject({ openapi: '3.1.0', info: { title: 'Podgate', version: '0.5.0' } });
  });

  test('is found valid by a validator', async ({ skip }) => {
    const script = 'import json, sys, openapi_spec_validator as v; v.validate(json.load(sys.stdin))';
    const probe = await promisify(execFile)('python3', ['-c', 'import openapi_spec_validator']).catch(
      () => null,
    );
    if (probe === null) skip('python3 has no openapi-spec-validator here');
    const run = promisify(execFile)('python3', ['-c', script]);
    run.child.stdin?.end(JSON.stringify(document));
    await run;
  });

  test('describes every route that the gateway has, and no other', async () => {
    expect(operations().map(([path, method]) => `${method.toUpperCase()} ${path}`)).toEqual([
      'GET /health',
      'GET /ready',
      'POST /v1/execute',
      'POST /v1/execute/stream',
      'GET /v1/executions/{id}/events',
      'GET /v1/executions/{id}',
      'DELETE /v1/executions/{id}',
      'GET /v1/clusters',
      'GET /v1/sessions',
      'POST /v1/sessions',
      'GET /v1/sessions/{id}',
      'DELETE /v1/sessions/{id}',
      'POST /v1/sessions/{id}/extend',
      'POST /v1/sessions/{id}/bash',
      'POST /v1/sessions/{id}/bash/stream',
      'POST /v1/sessions/{id}/execute',
      'POST /v1/sessions/{id}/execute/stream',
      'POST /v1/sessions/{id}/contexts/{name}/restart',
      'GET /v1/sessions/{id}/files',
      'PUT /v1/sessions/{id}/files',
      'DELETE /v1/sessions/{id}/files',
      'GET /v1/sessions/{id}/files/list',
      'GET /v1/sessions/{id}/files/stat',
      'POST /v1/sessions/{id}/files/mkdir',
      'POST /v1/sessions/{id}/files/move',
      'GET /v1/sessions/{id}/tree',
      'PUT /v1/sessions/{id}/tree',
      'GET /v1/sessions/{id}/terminals/{name}',
      'DELETE /v1/sessions/{id}/terminals/{name}',
      'POST /v1/executions/{id}/stdin',
      'POST /v1/executions/{id}/signal',
      'GET /v1/files',
      'POST /v1/files',
      'GET /v1/files/{id}',
      'DELETE /v1/files/{id}',
    ]);
    for (const [path, method] of operations()) {
      const response = await bench.ask(path.replace('{id}', 'x').replace('{name}', 'y'), {
        method: method.toUpperCase(),
      });
      expect([path, response.status]).not.toEqual([path, 405]);
    }
  });

  test('names every parameter of a path, and every operation once', () => {
    const ids = operations().map(([, , { operationId }]) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const [path, item] of Object.entries(document.paths)) {
      const wanted = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
        name,
        in: 'path',
        required: true,
      }));
      expect(item.parameters ?? []).toMatchObject(wanted);
    }
  });

  test('says which requests want a path of a session, and which take its workspace without one', async () => {
    const wanted = operations().flatMap(([path, method, { parameters = [] }]) =>
      parameters.filter(({ name }) => name === 'path').map(({ required }) => ({ path, method, required })),
    );
    expect(wanted).toHaveLength(7);
    for (const { path, method, required } of wanted) {
      const { status } = await bench.ask(path.replace('{id}', 'x'), { method: method.toUpperCase() });
      expect([method, path, required]).toEqual([method, path, status === 422]);
    }
  });

  test('has a description for every answer, 401 wherever a key is wanted, and references that resolve', () => {
    for (const [path, , { responses, security, summary }] of operations()) {
      expect(summary).toBeTruthy();
      for (const { description } of Object.values(responses)) expect(description).toBeTruthy();
      const open = path === '/health' || path === '/ready';
      expect('401' in responses).toBe(!open);
      expect(security.length).toBe(open ? 0 : 3);
    }
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref);
    const components = Object.keys(document.components.schemas as Json);
    expect(new Set(references)).toEqual(new Set(components.map((name) => `#/components/schemas/${name}`)));
  });

  test('has a schema for every event of a stream, which its description names', () => {
    const streams = operations().filter(([path]) => /stream$|events$/.test(path));
    for (const [path, , { responses }] of streams) {
      const { description = '' } = responses[200] ?? {};
      expect([path, [...description.matchAll(/`(\w+)` \((\w+)\)/g)].map(([, ...each]) => each)]).toEqual([
        path,
        [
          ['output', 'OutputEvent'],
          ['gap', 'GapEvent'],
          ['result', RESULT_OF[path] ?? 'ResultEvent'],
          ['error', 'ErrorEvent'],
        ],
      ]);
    }
    expect(document.components.schemas).toMatchObject({
      OutputEvent: { type: 'object', required: ['stream', 'data'] },
      ErrorEvent: { properties: { started: { enum: ['yes', 'no', 'unknown'] } } },
      PythonResultEvent: { properties: { context: { type: 'string' } } },
      ReadResultEvent: { properties: { context: { type: 'string' } } },
      BashResultEvent: { properties: { timed_out: { type: 'boolean' } } },
    });
  });

  test('names the headers and queries that routes heed', () => {
    const named = (path: string, method: string) =>
      ((document.paths[path]?.[method] as Operation | undefined)?.parameters ?? []).map(
        (each) => `${each.in} ${each.name}`,
      );
    const execute = ['header Podgate-Cluster', 'header Idempotency-Key', 'header Podgate-User'];
    expect(named('/v1/execute', 'post')).toEqual(execute);
    expect(named('/v1/execute/stream', 'post')).toEqual(execute);
    expect(named('/v1/sessions', 'post')).toEqual(['header Podgate-Cluster', 'header Podgate-User']);
    expect(named('/v1/sessions/{id}/files', 'get')).toEqual([
      'query path',
      'header Range',
      'header Podgate-User',
    ]);
    expect(named('/v1/sessions/{id}/files', 'delete')).toEqual([
      'query path',
      'query recursive',
      'header Podgate-User',
    ]);
    for (const [path, method, { security }] of operations())
      expect([path, named(path, method).includes('header Podgate-User')]).toEqual([
        path,
        security.length > 0,
      ]);
  });

  test('names the scope that each route wants, and where another will do', () => {
    const said = (path: string, method: string) =>
      (document.paths[path]?.[method] as { description?: string } | undefined)?.description;
    expect(said('/v1/execute', 'post')).toBe('The key has the scope `execute`.');
    expect(said('/v1/files', 'get')).toBe('The key has the scope `files`.');
    expect(said('/v1/executions/{id}', 'delete')).toBe(
      'The key has the scope `execute`, or `sessions` for what belongs to a session.',
    );
    expect(said('/health', 'get')).toBeUndefined();
  });

  test('lists the refusal of a user that is none for every route that a key opens', async () => {
    for (const [path, method, { security, responses }] of operations()) {
      if (security.length === 0) continue;
      const response = await bench.ask(path.replace('{id}', 'x').replace('{name}', 'y'), {
        method: method.toUpperCase(),
        headers: { 'Podgate-User': 'x'.repeat(129) },
      });
      expect([path, response.status]).toEqual([path, 422]);
      expect([path, Object.keys(responses).includes('422')]).toEqual([path, true]);
    }
  });

  test('comes from the schemas that check requests, ceilings of the configuration among them', () => {
    const execute = document.paths['/v1/execute']?.post as Operation;
    const body = execute.requestBody?.content['application/json'] as { schema: Json };
    const { properties, required } = body.schema as {
      properties: Record<string, Json>;
      required: string[];
    };
    expect(required).toEqual(['code']);
    expect(properties.timeout_ms).toMatchObject({
      type: 'integer',
      minimum: 1,
      maximum: 12_345,
      default: 2000,
    });
    expect(properties.last_line_interactive).toMatchObject({ type: 'boolean', default: true });
    expect(properties).toHaveProperty('queue_timeout_ms');
  });
});
