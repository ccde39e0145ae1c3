import { Failure, toProblem } from '../../shared/errors.ts';

/** `application/problem+json` of a failure. `Retry-After` is in whole seconds, one at least. */
export function problemResponse(
  failure: Failure,
  requestId: string,
  extra: Record<string, string> = {},
): Response {
  const headers: Record<string, string> = {
    'Content-Type': 'application/problem+json',
    'Cache-Control': 'no-store',
    ...extra,
  };
  if (failure.status === 401) headers['WWW-Authenticate'] = 'Bearer';
  if (failure.status === 429 || failure.status === 503)
    headers['Retry-After'] = String(Math.max(1, Math.ceil((failure.retryAfterMs ?? 1_000) / 1_000)));
  return new Response(JSON.stringify(toProblem(failure, requestId)), { status: failure.status, headers });
}

/** Whatever was thrown, as a failure that says nothing of the inside. */
export function toFailure(thrown: unknown): Failure {
  if (thrown instanceof Failure) return thrown;
  return new Failure('internal', 'Something went wrong on this side.', { cause: thrown });
}

/** JSON on one line. */
export function jsonResponse(
  body: object,
  init: { status?: number; headers?: Record<string, string> } = {},
): Response {
  return new Response(JSON.stringify(body), {
    status: init.status ?? 200,
    headers: { 'Content-Type': 'application/json', ...init.headers },
  });
}
