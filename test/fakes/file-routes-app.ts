import { Hono } from 'hono';
import type { Caller } from '../../gateway/auth/caller.ts';
import type { FileStore } from '../../gateway/files/file-store.ts';
import type { DiscardBounds } from '../../gateway/http/discard.ts';
import { createFileRoutes } from '../../gateway/routes/files.ts';
import { Failure, toProblem } from '../../shared/errors.ts';

const CALLER: Caller = {
  kind: 'callers',
  tenant: 'acme',
  principal: 'acme/anna',
  principalDigest: 'digest',
  holder: 'acme/anna',
  sub: 'anna',
  user: null,
  jti: 'jti',
  kid: 'kid',
  signedBy: 'x',
  issuer: 'issuer',
  scopes: ['files'],
  clusters: null,
  defaultCluster: null,
  templates: null,
  limits: {
    timeout_ms: null,
    memory_mb: null,
    concurrency: null,
    requests_per_minute: null,
    file_bytes: null,
    file_count: null,
    sessions: null,
  },
  expiresAtMs: Number.POSITIVE_INFINITY,
};

/** The routes of files under an app that answers Failures as the gateway does; the caller is whom `Test-Caller` describes. */
export function createFileRoutesApp(store: FileStore, discard?: DiscardBounds): Hono {
  const routes = createFileRoutes({
    store,
    callerOf: (context) => ({ ...CALLER, ...JSON.parse(context.req.header('test-caller') ?? '{}') }),
    now: () => 0,
    authenticator: {
      watchRevocation: () => ({ signal: new AbortController().signal, [Symbol.dispose]() {} }),
    },
    timers: { setTimeout, clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout) },
    ...(discard ? { discard } : {}),
  });
  const app = new Hono().route('/v1/files', routes);
  app.onError((error) => {
    const failure = error instanceof Failure ? error : new Failure('internal', 'failed', { cause: error });
    return Response.json(toProblem(failure, 'request-1'), {
      status: failure.status,
      headers: { 'Content-Type': 'application/problem+json' },
    });
  });
  return app;
}
