import * as z from 'zod';
import { problem } from '../../shared/api.ts';
import { MAX_USER_CHARS } from '../../shared/principal.ts';
import type { KeyedRoute, Route, RouteAnswer, RouteDoc } from './route.ts';

type Json = Record<string, unknown>;

/** The bodies that answers and requests share, by the name they have in the document. */
const PROBLEM_REF = { $ref: '#/components/schemas/Problem' };
const KEYED_PROBLEMS = [401, 403, 422, 429];
const PROBLEM_TITLES: Record<number, string> = {
  401: 'The key was not accepted',
  403: 'The key or the cluster does not allow this',
  404: 'Not found',
  409: 'A conflict with another request',
  413: 'The request is too large',
  416: 'Nothing lies in the range',
  422: 'The request is not valid',
  429: 'The caller is over its share; see Retry-After',
  501: 'Not available yet',
  502: 'Something broke; `started` says how far it came',
  503: 'The cluster or the service cannot take it now; see Retry-After',
};

const USER_HEADER = {
  'Podgate-User': {
    description: 'The end user behind the key: what is theirs is nobody else’s of that key',
    schema: { type: 'string', minLength: 1, maxLength: MAX_USER_CHARS },
  },
};
const KEY_HEADER = {
  'Idempotency-Key': {
    description:
      'The same key and request, until ten minutes after the end, give the same execution; another request is 409',
    schema: { type: 'string', minLength: 1, maxLength: 255 },
  },
};

/** OpenAPI 3.1 of the routes, from the schemas that check requests. Made once, at the start. */
export function describeApi(routes: readonly Route[], version: string): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    if (route.doc === null) continue;
    const item = paths[route.path] ?? pathItem(route.path);
    paths[route.path] = item;
    item[route.method.toLowerCase()] = operation(route, route.doc);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Podgate',
      version,
      description:
        'Runs code that nobody trusts. Every path that begins with /v1/ is also served below /clusters/{name}.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    paths,
    components: {
      schemas: { Problem: toSchema(problem, 'output'), ...eventSchemas(routes) },
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
        apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
        basic: { type: 'http', scheme: 'basic', description: 'The key as password' },
      },
    },
  };
}

function pathItem(path: string): Json {
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  return parameters.length > 0 ? { parameters } : {};
}

function operation(route: Route, doc: NonNullable<RouteDoc>): Json {
  const { method, path, scope, takesKey } = route;
  const { query, headers } = doc;
  const named = {
    query,
    headers: { ...headers, ...(takesKey && KEY_HEADER), ...(scope !== null && USER_HEADER) },
  };
  const parameters = (['query', 'headers'] as const).flatMap((place) =>
    Object.entries(named[place] ?? {}).map(([name, { description, schema, required = false }]) => ({
      name,
      in: place === 'query' ? 'query' : 'header',
      required,
      description,
      schema,
    })),
  );
  const statuses = new Set([...(scope === null ? [] : KEYED_PROBLEMS), ...(doc.problems ?? [])]);
  const problems = [...statuses].sort().map((status) => [
    String(status),
    {
      description: PROBLEM_TITLES[status] ?? 'A failure',
      content: { 'application/problem+json': { schema: PROBLEM_REF } },
    },
  ]);
  const answers = Object.entries(doc.responses).map(([status, answer]) => [status, describeAnswer(answer)]);
  return {
    operationId: operationId(method, path),
    summary: doc.summary,
    ...(route.scope !== null && { description: scopeSentence(route) }),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(doc.request || doc.requestContent
      ? {
          requestBody: {
            required: true,
            content: doc.requestContent ?? { 'application/json': { schema: toSchema(doc.request, 'input') } },
          },
        }
      : {}),
    responses: Object.fromEntries([...answers, ...problems]),
    security: scope === null ? [] : [{ bearer: [] }, { apiKey: [] }, { basic: [] }],
  };
}

function scopeSentence({ scope, orScope }: KeyedRoute): string {
  const or = orScope ? `, or \`${orScope}\` for what belongs to a session` : '';
  return `The key has the scope \`${scope}\`${or}.`;
}

function describeAnswer({ description, schema, events, content }: RouteAnswer): Json {
  if (schema) return { description, content: { 'application/json': { schema: toSchema(schema, 'output') } } };
  if (!events) return content ? { description, content } : { description };
  const named = Object.entries(events).map(([event, schema]) => [event, componentOf(schema)] as const);
  const list = named.map(([event, component]) => `\`${event}\` (${component})`).join(', ');
  return {
    description: `${description}. Events, and the schema of the one line of JSON that is the data of each: ${list}.`,
    content: { 'text/event-stream': { schema: { type: 'string', contentMediaType: 'text/event-stream' } } },
    'x-events': Object.fromEntries(
      named.map(([event, component]) => [event, { $ref: `#/components/schemas/${component}` }]),
    ),
  };
}

/** By the titles of the schemas: OpenAPI 3.1 cannot say what a stream of events holds. */
function eventSchemas(routes: readonly Route[]): Json {
  const events = routes
    .flatMap(({ doc }) => Object.values(doc?.responses ?? {}))
    .flatMap((answer) => Object.values(answer.events ?? {}));
  return Object.fromEntries(events.map((event) => [componentOf(event), toSchema(event, 'output')]));
}

function componentOf(event: z.ZodType): string {
  return String(event.meta()?.title);
}

/** `POST /v1/sessions/{id}/bash` is `post_sessions_id_bash`. */
function operationId(method: string, path: string): string {
  const words = path.replace(/^\/v1\//, '/').match(/\w+/g) ?? [];
  return [method.toLowerCase(), ...words].join('_');
}

function toSchema(schema: z.ZodType | undefined, io: 'input' | 'output'): Json {
  if (!schema) return {};
  const { $schema: _, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    // Answers may grow members: a client that was made from this document must not trip over them.
    override: ({ jsonSchema }) => {
      if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
    },
  });
  return rest;
}
