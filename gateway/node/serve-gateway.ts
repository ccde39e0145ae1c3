import { hash, randomUUID } from 'node:crypto';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { createIdSealer, generateKeyring, importKeyring, type Keyring, openId } from '../../shared/ids.ts';
import { createLineWriter } from '../../shared/log-lines.ts';
import { createAuthenticator } from '../auth/authenticator.ts';
import { haveSeveralTenants } from '../auth/issuers.ts';
import { createRateLimiter } from '../auth/rate-limiter.ts';
import { createGateway, type Gateway } from '../create-gateway.ts';
import { createNoFileStore } from '../files/no-file-store.ts';
import type { GatewayDeps, Log } from '../gateway-deps.ts';
import type { GatewayProcessConfig } from './config.ts';
import { createDocumentReader } from './documents.ts';
import { createCompactEncrypter } from './encrypt-compact.ts';
import { openFolderFileStore } from './folder-file-store.ts';
import { createHttpServer } from './http-server.ts';
import { createJsonLog } from './json-log.ts';
import { readIssuers, readKeyring } from './key-files.ts';
import { closeServer, listen, stopListening } from './listen.ts';
import { createGatewayMetrics } from './metrics.ts';
import { createMetricsServer } from './metrics-server.ts';
import { createRandomSource } from './random-source.ts';
import { acceptUpgrades } from './upgrades.ts';

const CLOSE_MS = 2_000;
/** For a request that is on its way over a connection that was taken before the gateway listened no more, or kept. */
const LAST_REQUEST_MS = 500;
const WAIT_TURNS = 10;
/** Of what nobody waits for. Whoever is woken by what this process sends waits for its processor until it rests. */
const LATER_MS = 1;

const later = (work: () => void) => void setTimeout(work, LATER_MS);
const sha256 = (text: string) => hash('sha256', text, 'hex');

export type ServeGatewayOptions = {
  config: GatewayProcessConfig;
  version: string;
  log?: Log;
  /** How long a replica that leaves waits for what is asked on connections that it has. */
  lastRequestMs?: number;
  /** How long connections may take to end once it is closed. */
  closeMs?: number;
  /** Breaks off the start, which rejects with its reason then. */
  signal?: AbortSignal;
};

export type RunningGateway = {
  readonly gateway: Gateway;
  readonly url: string;
  readonly port: number;
  /** Null without a metrics port. */
  readonly metricsPort: number | null;
  /**
   * Is not ready any more, but takes what is asked for `delayMs`, each answer the last on its connection. Then refuses
   * new work, lets what runs end and what was asked be answered, at most `deadlineMs`, and closes. Where there are other
   * replicas it does not listen after the delay: whoever is refused a connection goes to one of them, and whoever has one
   * may still ask on it for half a second.
   */
  drain(deadlineMs: number, delayMs?: number): Promise<void>;
  /** Ends at once. Idempotent. */
  close(): Promise<void>;
};

/** Starts a gateway process's servers. Rejects where keys, files or an address cannot be had. */
export async function serveGateway({
  config,
  version,
  log = logToStdout(),
  lastRequestMs = LAST_REQUEST_MS,
  closeMs = CLOSE_MS,
  signal,
}: ServeGatewayOptions): Promise<RunningGateway> {
  await using stack = new AsyncDisposableStack();
  const ending = new AbortController();
  const end = () => ending.abort();
  stack.defer(end);
  signal?.addEventListener('abort', end);
  const issuers = await readIssuers(config.issuersFile);
  const keyring = await keyringOf(config, log);
  const fileStore = config.files
    ? stack.use(
        await openFolderFileStore({
          ...config.files,
          onFault: (cause) => log({ level: 'warn', event: 'file_sweep_failed', cause: String(cause) }),
        }),
      )
    : createNoFileStore();

  const gateway = Promise.withResolvers<Gateway>();
  const { server, leave, answered, dismiss, cut } = createHttpServer(gateway.promise);
  const upgrades = acceptUpgrades(server, gateway.promise);
  const port = await listen(server, config.host, config.port, 'PORT');
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= stopListening(server);
    return stopped;
  };
  // Before there is a gateway nobody's answer is under way.
  let lingerMs = 0;
  stack.defer(() => closeServer(server, lingerMs, { closed: stop(), cut }));

  const authenticator = createAuthenticator({
    issuers,
    denyList: config.denyList,
    readDocument: createDocumentReader({ signal: ending.signal }),
    origins: config.origins.length > 0 ? config.origins : ownOrigins(config.host, port),
    now: Date.now,
    elapsed: () => performance.now(),
    sha256,
    sleep: pause,
    // What its end broke off is no trouble.
    log: (entry) => ending.signal.aborted || log(entry),
  });
  await authenticator.refresh();
  signal?.removeEventListener('abort', end);
  signal?.throwIfAborted();
  lingerMs = closeMs;
  void authenticator.watch(ending.signal);

  const metrics = createGatewayMetrics(() => opened.status());
  const deps: GatewayDeps = {
    config: {
      ...config.gateway,
      severalTenants: haveSeveralTenants(issuers),
      version,
      serverId: randomUUID(),
    },
    now: Date.now,
    elapsed: () => performance.now(),
    // What is left to be forgotten a minute after an execution keeps no process from its end.
    timers: {
      setTimeout: (callback, ms) => setTimeout(callback, ms).unref(),
      clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
    },
    random: createRandomSource(),
    log,
    authenticator,
    rateLimiter: createRateLimiter({ elapsed: () => performance.now() }),
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
  const opened = createGateway(deps);
  gateway.resolve(opened);
  stack.defer(() => {
    opened.close();
    upgrades.close();
  });

  const metricsServer = config.metrics ? createMetricsServer(metrics) : null;
  const metricsPort =
    metricsServer && config.metrics
      ? await listen(metricsServer, config.metrics.host, config.metrics.port, 'PODGATE_METRICS_PORT')
      : null;
  if (metricsServer) stack.defer(() => closeServer(metricsServer, 0));
  const held = stack.move();
  let closing: Promise<void> | undefined;
  const hurry = new AbortController();
  const close = () => {
    leave();
    hurry.abort();
    closing ??= held.disposeAsync();
    return closing;
  };
  return {
    gateway: opened,
    url: `http://${urlHost(config.host)}:${port}`,
    port,
    metricsPort,
    async drain(deadlineMs, delayMs = 0) {
      leave();
      opened.leave();
      if (delayMs > 0) await waitForOthers(delayMs, hurry.signal);
      if (config.gateway.replicas > 1) {
        void stop();
        await waitForOthers(lastRequestMs, hurry.signal);
      }
      const untilMs = performance.now() + deadlineMs;
      await opened.drain(deadlineMs);
      // Files come and go, and answers are taken, at their callers' pace.
      void stop();
      await Promise.race([answered(), pause(Math.max(0, untilMs - performance.now()), hurry.signal)]);
      // Whoever had the last answers on a connection to keep is told, not cut off.
      if (config.gateway.replicas > 1) {
        await waitForOthers(lastRequestMs, hurry.signal);
        dismiss();
      }
      await close();
    },
    close,
  };
}

/** Resolves when the time is over or the signal is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return sleep(ms, undefined, { signal, ref: false }).catch(() => {});
}

/**
 * A pause for what others send meanwhile, in turns that this process had: after a while without one, that the time is over
 * would be seen before what came in time.
 */
async function waitForOthers(ms: number, signal: AbortSignal): Promise<void> {
  for (let turn = 0; turn < WAIT_TURNS && !signal.aborted; turn += 1) {
    await pause(ms / WAIT_TURNS, signal);
    // The look at the sockets comes behind that at the timers.
    await nextTurn();
  }
}

async function keyringOf({ idKeysFile, gateway }: GatewayProcessConfig, log: Log): Promise<Keyring> {
  if (idKeysFile !== null) return readKeyring(idKeysFile);
  log({ level: 'warn', event: 'id_keys_ephemeral', replicas: gateway.replicas });
  return importKeyring(generateKeyring('ephemeral'));
}

/** What an agent on this machine may dial, when nothing else is configured. */
function ownOrigins(host: string, port: number): string[] {
  return [...new Set([urlHost(host), '127.0.0.1', 'localhost'])].map((name) => `http://${name}:${port}`);
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function logToStdout(): Log {
  return createJsonLog(createLineWriter(process.stdout));
}
