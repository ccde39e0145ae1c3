import { createRateLimiter } from '../../gateway/auth/rate-limiter.ts';
import { createGateway, type Gateway } from '../../gateway/create-gateway.ts';
import type { ExecutionRecord } from '../../gateway/execution/execution-record.ts';
import type { FileStore } from '../../gateway/files/file-store.ts';
import {
  DEFAULT_GATEWAY_CONFIG,
  type GatewayConfig,
  type GatewayDeps,
  type LogEntry,
} from '../../gateway/gateway-deps.ts';
import { generateKeyring, importKeyring, openId, sealId } from '../../shared/ids.ts';
import { type AgentIdentity, createAgentIdentity } from './agent-identity.ts';
import { type AuthBench, createAuthBench } from './auth-bench.ts';
import { createFakeClock, type FakeClock } from './fake-clock.ts';
import { createKeyIssuer, type Json, type KeyIssuer } from './key-issuer.ts';
import { createMemoryFileStore } from './memory-file-store.ts';
import { MockAgent, type MockAgentOptions } from './mock-agent.ts';

export const ALL_SCOPES = 'execute files sessions clusters';

/** A gateway whose clock, keys, files and agents a test holds. */
export type GatewayBench = {
  readonly gateway: Gateway;
  readonly deps: GatewayDeps;
  readonly clock: FakeClock;
  readonly auth: AuthBench;
  readonly files: FileStore;
  readonly log: LogEntry[];
  readonly records: ExecutionRecord[];
  readonly callers: KeyIssuer;
  readonly agents: KeyIssuer;
  /** A key with every scope, unless the claims say otherwise. */
  key(claims?: Json): Promise<string>;
  identity(options?: { claims?: Json; stolen?: boolean }): Promise<AgentIdentity>;
  /** A mock agent that has joined, or was refused. */
  agent(options?: Partial<MockAgentOptions> & { claims?: Json; stolen?: boolean }): Promise<MockAgent>;
  /** A request with the bench's own key unless headers say otherwise; objects are sent as JSON. */
  ask(path: string, options?: AskOptions): Promise<Response>;
};

export type AskOptions = {
  method?: string;
  headers?: Record<string, string>;
  body?: object | string | Uint8Array<ArrayBuffer>;
  signal?: AbortSignal;
  key?: string | null;
};

export type GatewayBenchOptions = {
  config?: Partial<GatewayConfig>;
  fileStore?: (store: FileStore) => FileStore;
  denyList?: boolean;
  /** Of callers and agents: the claim that holds their tenant, `acme` unless theirs say otherwise. */
  tenantClaim?: string;
};

export async function createGatewayBench(options: GatewayBenchOptions = {}): Promise<GatewayBench> {
  const clock = createFakeClock();
  const { tenantClaim } = options;
  const tenant = tenantClaim === undefined ? {} : { [tenantClaim]: 'acme' };
  const entry = tenantClaim === undefined ? {} : { tenant_claim: tenantClaim };
  const callers = await createKeyIssuer({ kind: 'callers', claims: { scope: ALL_SCOPES, ...tenant } });
  const agents = await createKeyIssuer({ kind: 'agents', claims: tenant });
  const auth = createAuthBench(
    [
      { issuer: callers, entry },
      { issuer: agents, entry },
    ],
    options.denyList ? { denyList: { file: 'deny' } } : {},
  );
  auth.documents.set('deny', '');
  Object.defineProperty(auth, 'nowMs', { get: () => clock.wall() });
  Object.defineProperty(auth, 'elapsedMs', { get: () => clock.now() });
  await auth.authenticator.refresh();
  const keyring = await importKeyring(generateKeyring('test'));
  const memory = createMemoryFileStore(
    { maxFileBytes: 1_048_576, maxBytes: 16_777_216, maxFiles: 10_000, ttlMs: 3_600_000 },
    () => clock.wall(),
  );
  const files = options.fileStore?.(memory) ?? memory;
  const log: LogEntry[] = [];
  const records: ExecutionRecord[] = [];
  const deps: GatewayDeps = {
    config: {
      ...DEFAULT_GATEWAY_CONFIG,
      version: '0.5.0',
      serverId: 'server-1',
      maxFileBytes: 1_048_576,
      ...options.config,
    },
    now: () => clock.wall(),
    elapsed: () => clock.now(),
    timers: {
      setTimeout: (callback, ms) => clock.after(ms, callback),
      clearTimeout: (cancel) => (cancel as (() => void) | undefined)?.(),
    },
    random: (bytes) => crypto.getRandomValues(new Uint8Array(bytes)),
    log: (entry) => log.push(entry),
    authenticator: auth.authenticator,
    rateLimiter: createRateLimiter({ elapsed: () => clock.now() }),
    ids: { seal: (parts) => sealId(keyring, parts), open: (kind, text) => openId(keyring, kind, text) },
    fileStore: files,
    onExecutionEnd: (record) => records.push(record),
  };
  const gateway = createGateway(deps);
  const own = await callers.sign();
  const bench: GatewayBench = {
    gateway,
    deps,
    clock,
    auth,
    files,
    log,
    records,
    callers,
    agents,
    key: (claims = {}) => callers.sign({ claims }),
    identity: (given) => createAgentIdentity(agents, given),
    async agent({ claims, stolen, ...given } = {}) {
      const identity =
        given.identity ?? (await bench.identity({ ...(claims && { claims }), ...(stolen && { stolen }) }));
      return new MockAgent(gateway, { now: () => clock.wall(), ...given, identity }).joined();
    },
    ask(path, { method, headers = {}, body, signal, key = own } = {}) {
      const raw = body === undefined || typeof body === 'string' || body instanceof Uint8Array;
      return gateway.fetch(
        new Request(`http://gate.example${path}`, {
          method: method ?? (body === undefined ? 'GET' : 'POST'),
          headers: { ...(key === null ? {} : { authorization: `Bearer ${key}` }), ...headers },
          ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
          ...(signal ? { signal } : {}),
        }),
      );
    },
  };
  return bench;
}

/** A problem's body, checked for its content type. */
export async function problemOf(response: Response): Promise<Json & { status: number; code: string }> {
  if (response.headers.get('content-type') !== 'application/problem+json')
    throw new Error(`no problem: ${response.status} ${await response.text()}`);
  return (await response.json()) as Json & { status: number; code: string };
}
