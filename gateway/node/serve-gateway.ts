import { generateKeyring, importKeyring, type Keyring } from '../../shared/ids.ts';
import { createLineWriter } from '../../shared/log-lines.ts';
import { createGateway, type Gateway } from '../create-gateway.ts';
import { createNoFileStore } from '../files/no-file-store.ts';
import type { Log } from '../gateway-deps.ts';
import type { GatewayProcessConfig } from './config.ts';
import { drainGateway } from './drain-gateway.ts';
import { type FolderFileStore, openFolderFileStore } from './folder-file-store.ts';
import { openFrontServer } from './front-server.ts';
import { createJsonLog } from './json-log.ts';
import { readIssuers, readKeyring } from './key-files.ts';
import { closeServer, listen } from './listen.ts';
import { createGatewayMetrics, type GatewayMetrics } from './metrics.ts';
import { createMetricsServer } from './metrics-server.ts';
import { createNodeAuthenticator, createNodeDeps } from './node-deps.ts';

const CLOSE_MS = 2_000;
/** For a request that is on its way over a connection that was taken before the gateway listened no more, or kept. */
const LAST_REQUEST_MS = 500;

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
  const fileStore = stack.use(await openFolder(config, log)) ?? createNoFileStore();

  const front = await openFrontServer(config);
  // Before there is a gateway nobody's answer is under way.
  let lingerMs = 0;
  stack.defer(() => front.close(lingerMs));

  const authenticator = createNodeAuthenticator({
    issuers,
    denyList: config.denyList,
    origins: config.origins.length > 0 ? config.origins : ownOrigins(config.host, front.port),
    log,
    signal: ending.signal,
  });
  await authenticator.refresh();
  signal?.removeEventListener('abort', end);
  signal?.throwIfAborted();
  lingerMs = closeMs;
  void authenticator.watch(ending.signal);

  const metrics = createGatewayMetrics(() => gateway.status());
  const parts = { config, version, log, issuers, keyring, authenticator, fileStore, metrics };
  const gateway: Gateway = createGateway(createNodeDeps(parts));
  front.open(gateway);
  stack.defer(() => {
    gateway.close();
    front.closeUpgrades();
  });
  const metricsPort = config.metrics && (await serveMetrics(config.metrics, metrics, stack));

  const held = stack.move();
  let closing: Promise<void> | undefined;
  const hurry = new AbortController();
  const close = () => {
    front.leave();
    hurry.abort();
    closing ??= held.disposeAsync();
    return closing;
  };
  return {
    gateway,
    url: `http://${urlHost(config.host)}:${front.port}`,
    port: front.port,
    metricsPort,
    async drain(deadlineMs, delayMs = 0) {
      const hasOthers = config.gateway.replicas > 1;
      const times = { delayMs, deadlineMs, lastRequestMs };
      await drainGateway({ gateway, front, hasOthers, ...times, signal: hurry.signal });
      await close();
    },
    close,
  };
}

/** Null where no files are kept. */
async function openFolder({ files }: GatewayProcessConfig, log: Log): Promise<FolderFileStore | null> {
  if (!files) return null;
  return openFolderFileStore({
    ...files,
    onFault: (cause) => log({ level: 'warn', event: 'file_sweep_failed', cause: String(cause) }),
  });
}

/** Listens until the stack is disposed of. Resolves to the port. */
async function serveMetrics(
  at: { host: string; port: number },
  metrics: GatewayMetrics,
  stack: AsyncDisposableStack,
): Promise<number> {
  const server = createMetricsServer(metrics);
  const port = await listen(server, at.host, at.port, 'PODGATE_METRICS_PORT');
  stack.defer(() => closeServer(server, 0));
  return port;
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
