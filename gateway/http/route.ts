import type * as z from 'zod';
import type { Scope } from '../../shared/claims.ts';
import type { Caller } from '../auth/caller.ts';

/** One request on its way to a handler. */
export type RouteContext = {
  request: Request;
  params: Readonly<Record<string, string>>;
  /** The caller's `X-Request-Id`, or one made here. */
  requestId: string;
  /** W3C trace context, passed through as it came. */
  traceparent: string | null;
  /** From the path prefix `/clusters/{name}`; null without it. Not checked yet. */
  pathCluster: string | null;
  info: RequestInfo;
};

/** The same once its key was accepted. */
export type KeyedContext = RouteContext & { caller: Caller };

/** What an adapter can do for a request that the Web APIs cannot. */
export type RequestInfo = {
  /** Cuts the connection at once: its reader takes nothing any more. */
  disconnect?: () => void;
};

/** Where nobody needs a key. */
export type OpenRoute = RouteShape & {
  scope: null;
  handle(context: RouteContext): Response | Promise<Response>;
};
/** Key, scope and rate are checked before `handle`. */
export type KeyedRoute = RouteShape & {
  scope: Scope;
  /** A key with this scope and without `scope` comes in too: `handle` says how far. */
  orScope?: Scope;
  handle(context: KeyedContext): Response | Promise<Response>;
};

type RouteShape = {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** From the root, parameters as `{name}`. Also served below `/clusters/{name}` when it begins with `/v1/`. */
  path: `/${string}`;
  /** It heeds `Idempotency-Key`. To any other route a POST with one is refused, and never done as if it had none. */
  takesKey?: true;
  doc: RouteDoc;
};

export type Route = OpenRoute | KeyedRoute;

export type RouteAnswer = {
  description: string;
  /** JSON. */
  schema?: z.ZodType;
  /** Server-sent events by name. */
  events?: Record<string, z.ZodType>;
  /** Anything else, as OpenAPI writes it. */
  content?: Record<string, unknown>;
};

type Parameter = { description: string; schema: Record<string, unknown>; required?: true };

/** What `/openapi.json` says of a route. Null hides it. */
export type RouteDoc = {
  summary: string;
  /** JSON body of the request. */
  request?: z.ZodType;
  /** Multipart or raw bodies, as OpenAPI writes them. */
  requestContent?: Record<string, unknown>;
  query?: Record<string, Parameter>;
  headers?: Record<string, Parameter>;
  responses: Record<number, RouteAnswer>;
  /** Statuses of problem+json that it may answer beside those every keyed route has. */
  problems?: readonly number[];
} | null;
