import { describeApi } from '../http/openapi.ts';
import type { Route } from '../http/route.ts';

/** `GET /openapi.json`: what the other routes say of themselves. */
export function createOpenapiRoute(routes: readonly Route[], version: string): Route {
  const text = JSON.stringify(describeApi(routes, version));
  return {
    method: 'GET',
    path: '/openapi.json',
    scope: null,
    handle: () => new Response(text, { headers: { 'Content-Type': 'application/json' } }),
    doc: null,
  };
}
