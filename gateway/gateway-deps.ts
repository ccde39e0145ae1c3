import type { IdParts, IdWanted } from '../shared/ids.ts';
import { DEAD_MS, HEARTBEAT_MS } from '../shared/limits.ts';
import type { Authenticator } from './auth/authenticator.ts';
import type { RateLimiter } from './auth/rate-limiter.ts';
import type { ExecutionRecord } from './execution/execution-record.ts';
import type { FileStore } from './files/file-store.ts';
import type { Sha256 } from './sha256.ts';

/** Timers are passed in, so that tests can hold the clock. */
export type Timers = {
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
};

/** One flat line of the log. Never code, output or keys. */
export type LogEntry = { level: 'info' | 'warn' | 'error'; event: string } & Record<
  string,
  string | number | boolean | null
>;
export type Log = (entry: LogEntry) => void;

/** What a gateway is told once, at its start. */
export type GatewayConfig = {
  version: string;
  /** Tells this replica from the others; new with every start. */
  serverId: string;
  /** How many replicas there are, so that agents know how many to look for. */
  replicas: number;
  /** MAX_EXEC_TIMEOUT_MS. */
  maxTimeoutMs: number;
  /** MAX_OUTPUT_BYTES, of stdout and of stderr each. */
  maxOutputBytes: number;
  /** MAX_FILE_SIZE_MB in bytes. */
  maxFileBytes: number;
  /** Output that waits for its readers or is collected for JSON answers, over all executions. */
  outputMemoryBytes: number;
  /** Whether keys of several tenants are taken: each then has a share of what all of them use. */
  severalTenants: boolean;
  maxLinksPerTenant: number;
  /** Sockets that have not been welcomed yet. */
  maxPendingLinks: number;
  heartbeatMs: number;
  deadMs: number;
  /** Where a browser may have a page from that opens a terminal; other pages' WebSockets are refused. */
  terminalOrigins: readonly string[];
};

/** Seals and opens the ids of executions and sessions. */
export type Ids = {
  seal(parts: IdParts): Promise<string>;
  open(wanted: IdWanted, text: string): Promise<IdParts | null>;
};

export type GatewayDeps = {
  config: GatewayConfig;
  /** Unix time in ms, for what others see and for keys: it may be set, forwards and back. */
  now: () => number;
  /** Milliseconds that only go forward, with fractions: for everything measured. */
  elapsed: () => number;
  timers: Timers;
  /** Cryptographically strong random bytes. */
  random: (bytes: number) => Uint8Array<ArrayBuffer>;
  log: Log;
  authenticator: Authenticator;
  rateLimiter: RateLimiter;
  ids: Ids;
  fileStore: FileStore;
  sha256?: Sha256;
  /** Called once for every execution that reached the queue, when it is over. Must not throw. */
  onExecutionEnd: (record: ExecutionRecord) => void;
};

export const DEFAULT_GATEWAY_CONFIG = {
  replicas: 1,
  maxTimeoutMs: 60_000,
  maxOutputBytes: 1_000_000,
  maxFileBytes: 104_857_600,
  outputMemoryBytes: 1_073_741_824,
  severalTenants: true,
  maxLinksPerTenant: 20_000,
  maxPendingLinks: 4_096,
  heartbeatMs: HEARTBEAT_MS,
  deadMs: DEAD_MS,
  terminalOrigins: [],
} as const satisfies Partial<GatewayConfig>;
