import { type Context, Hono } from 'hono';
import type { Scope } from '../../shared/claims.ts';
import { Failure } from '../../shared/errors.ts';
import { faultText } from '../../shared/fault-text.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { type Caller, requireScope } from '../auth/caller.ts';
import type { RateLimiter } from '../auth/rate-limiter.ts';
import type { Log, Timers } from '../gateway-deps.ts';
import { discardUnread } from './discard.ts';
import { problemResponse, toFailure } from './problem-response.ts';
import { requestIdOf, traceparentOf } from './request-ids.ts';
import type { RequestInfo, Route, RouteContext } from './route.ts';

export type RouterDeps = {
  authenticator: Pick<Authenticator, 'authenticate'>;
  rateLimiter: RateLimiter;
  timers: Timers;
  random: (bytes: number) => Uint8Array;
  log: Log;
};

type Env = { Bindings: { requestId: string; info: RequestInfo } };

const PREFIX = '/clusters/:clusterName';

/** Answers every request: routes, and problem+json for whatever they throw and for what there is no route for. */
export function createRouter(
  routes: readonly Route[],
  deps: RouterDeps,
): (request: Request, info?: RequestInfo) => Promise<Response> {
  const app = new Hono<Env>();
  for (const [path, methods] of byPath(routes)) mountPath(app, path, methods, deps);
  app.notFound(({ env, req }) => {
    // Base URLs of other APIs end with it.
    const hint = req.path.startsWith('/v1/v1/') ? ' The base URL of a gateway is without /v1.' : '';
    return problemResponse(new Failure('not_found', `There is nothing here.${hint}`), env.requestId);
  });
  app.onError((thrown, { env, req }) => {
    const failure = toFailure(thrown);
    if (failure.code === 'internal') logInternal(deps.log, failure, env.requestId, req.path);
    return problemResponse(failure, env.requestId);
  });
  return async (request, info = {}) => {
    const requestId = requestIdOf(request.headers, deps.random);
    const response = await app.fetch(request, { requestId, info });
    if (!response.ok) await discardUnread(request, deps.timers);
    response.headers.set('X-Request-Id', requestId);
    // An answer that says nothing may be kept by a cache on the way, and be another key's: X-API-Key is none that it knows.
    if (!response.headers.has('Cache-Control')) response.headers.set('Cache-Control', 'no-store');
    return response;
  };
}

function mountPath(app: Hono<Env>, path: string, methods: readonly Route[], deps: RouterDeps): void {
  const pattern = path.replace(/\{(\w+)\}/g, ':$1');
  const patterns = path.startsWith('/v1/') ? [pattern, PREFIX + pattern] : [pattern];
  for (const at of patterns) {
    for (const route of methods)
      app.on(route.method, at, async (context) => {
        const response = await handle(route, contextOf(context), deps);
        // HEAD comes here as GET, and nobody would read its body, nor say that nobody will.
        if (context.req.method === 'HEAD') await response.body?.cancel();
        return response;
      });
    app.all(at, otherMethod(methods.map(({ method }) => method)));
  }
}

async function handle(route: Route, context: RouteContext, deps: RouterDeps): Promise<Response> {
  if (route.scope === null) return route.handle(context);
  const { scope, orScope } = route;
  const caller = await admit(context.request, orScope ? [scope, orScope] : [scope], deps);
  if (!route.takesKey) refuseKey(context.request);
  return route.handle({ ...context, caller });
}

/** Key, then scope, then rate. */
async function admit(request: Request, scopes: Scope[], deps: RouterDeps): Promise<Caller> {
  const caller = await deps.authenticator.authenticate(request);
  requireScope(caller, ...scopes);
  deps.rateLimiter.take(caller);
  return caller;
}

/** Who sends a key counts on being able to send it all again: what would then be done twice must not begin. */
function refuseKey({ method, headers }: Request): void {
  if (method !== 'POST' || !headers.has('idempotency-key')) return;
  const message = 'This route takes no Idempotency-Key: executions do, and bash and execute of a session.';
  throw new Failure('invalid_request', message, { errors: [{ path: 'Idempotency-Key', message }] });
}

/** 405 with Allow; OPTIONS says the same without being a failure. No CORS: browsers of other sites are not served. */
function otherMethod(methods: readonly string[]): (context: Context<Env>) => Response {
  const all = [...methods, ...(methods.includes('GET') ? ['HEAD'] : []), 'OPTIONS'];
  const headers = { Allow: all.join(', ') };
  return ({ req, env }) => {
    if (req.method === 'OPTIONS') return new Response(null, { status: 204, headers });
    const failure = new Failure('method_not_allowed', `Use ${headers.Allow} here.`);
    return problemResponse(failure, env.requestId, headers);
  };
}

function contextOf({ req, env }: Context<Env>): RouteContext {
  const { clusterName, ...params } = req.param() as Record<string, string>;
  return {
    request: req.raw,
    params,
    requestId: env.requestId,
    traceparent: traceparentOf(req.raw.headers),
    pathCluster: clusterName ?? null,
    info: env.info,
  };
}

function byPath(routes: readonly Route[]): Map<string, Route[]> {
  const paths = new Map<string, Route[]>();
  for (const route of routes) paths.set(route.path, [...(paths.get(route.path) ?? []), route]);
  return paths;
}

function logInternal(log: Log, { cause }: Failure, requestId: string, path: string): void {
  log({ level: 'error', event: 'internal_error', request_id: requestId, path, cause: faultText(cause) });
}
