import { hash, randomUUID } from 'node:crypto';
import { createIdSealer, type Keyring, openId } from '../../shared/ids.ts';
import { type Authenticator, createAuthenticator } from '../auth/authenticator.ts';
import { haveSeveralTenants, type IssuerEntry } from '../auth/issuers.ts';
import { createRateLimiter } from '../auth/rate-limiter.ts';
import type { FileStore } from '../files/file-store.ts';
import type { GatewayDeps, Log, Timers } from '../gateway-deps.ts';
import type { GatewayProcessConfig } from './config.ts';
import { createDocumentReader } from './documents.ts';
import { createCompactEncrypter } from './encrypt-compact.ts';
import type { GatewayMetrics } from './metrics.ts';
import { pause } from './pause.ts';
import { createRandomSource } from './random-source.ts';

/** Of what nobody waits for. Whoever is woken by what this process sends waits for its processor until it rests. */
const LATER_MS = 1;

const later = (work: () => void) => void setTimeout(work, LATER_MS);
const sha256 = (text: string) => hash('sha256', text, 'hex');
const clocks = { now: Date.now, elapsed: () => performance.now() };

/** What is left to be forgotten a minute after an execution keeps no process from its end. */
const timers: Timers = {
  setTimeout: (callback, ms) => setTimeout(callback, ms).unref(),
  clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
};

export type NodeAuthenticatorOptions = Pick<GatewayProcessConfig, 'denyList'> & {
  issuers: readonly IssuerEntry[];
  /** The gateway's own, as agents dial them. */
  origins: readonly string[];
  log: Log;
  /** Breaks off what is being read. */
  signal: AbortSignal;
};

/** An authenticator with this process's clocks, files and network. It has read nothing yet: call `refresh`. */
export function createNodeAuthenticator({ log, signal, ...rest }: NodeAuthenticatorOptions): Authenticator {
  return createAuthenticator({
    ...rest,
    ...clocks,
    readDocument: createDocumentReader({ signal }),
    sha256,
    sleep: pause,
    // What its end broke off is no trouble.
    log: (entry) => signal.aborted || log(entry),
  });
}

export type NodeDepsOptions = Pick<GatewayDeps, 'authenticator' | 'log'> & {
  config: GatewayProcessConfig;
  version: string;
  issuers: readonly IssuerEntry[];
  keyring: Keyring;
  fileStore: FileStore;
  metrics: Pick<GatewayMetrics, 'observe'>;
};

/** What a gateway is made of in a process of Node's. */
export function createNodeDeps(options: NodeDepsOptions): GatewayDeps {
  const { config, version, issuers, keyring, log, authenticator, fileStore, metrics } = options;
  return {
    config: {
      ...config.gateway,
      severalTenants: haveSeveralTenants(issuers),
      version,
      serverId: randomUUID(),
    },
    ...clocks,
    timers,
    random: createRandomSource(),
    log,
    authenticator,
    rateLimiter: createRateLimiter(clocks),
    ids: {
      seal: createIdSealer(keyring, later, createCompactEncrypter()),
      open: (wanted, text) => openId(keyring, wanted, text),
    },
    fileStore,
    sha256,
    onExecutionEnd: (record) =>
      later(() => {
        metrics.observe(record);
        log({ level: 'info', event: 'execution', ...record });
      }),
  };
}
