import type { Caller } from '../../gateway/auth/caller.ts';
import type { FileStore } from '../../gateway/files/file-store.ts';
import type { Timers } from '../../gateway/gateway-deps.ts';
import type { DiscardBounds } from '../../gateway/http/discard.ts';
import { createRouter } from '../../gateway/http/router.ts';
import { createFileRoutes } from '../../gateway/routes/files.ts';

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

/** The routes of files behind the gateway's router; the caller is whom `Test-Caller` describes. */
export function createFileRoutesApp(fileStore: FileStore, discard?: DiscardBounds) {
  const timers: Timers = {
    setTimeout,
    clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
  };
  const routes = createFileRoutes({
    fileStore,
    now: () => 0,
    authenticator: {
      watchRevocation: () => ({ signal: new AbortController().signal, [Symbol.dispose]() {} }),
    },
    timers,
    ...(discard ? { discard } : {}),
  });
  const fetch = createRouter(routes, {
    authenticator: {
      authenticate: async ({ headers }) => ({ ...CALLER, ...JSON.parse(headers.get('test-caller') ?? '{}') }),
    },
    rateLimiter: { take() {} },
    timers,
    random: (bytes) => new Uint8Array(bytes),
    log() {},
  });
  return {
    fetch: (request: Request) => fetch(request),
    request(path: string, init?: RequestInit) {
      const request = new Request(new URL(path, 'http://gateway'), init);
      request.headers.set('X-Request-Id', 'request-1');
      return fetch(request);
    },
  };
}
