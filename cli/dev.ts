import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { AGENT_VARIABLE_NAMES, readAgentConfig } from '../agent/config.ts';
import { createJsonLog } from '../agent/log.ts';
import { isLoopback } from '../agent/loopback.ts';
import { startConfiguredAgent } from '../agent/run-agent.ts';
import { GATEWAY_VARIABLE_NAMES, readGatewayConfig } from '../gateway/node/config.ts';
import { type RunningGateway, serveGateway } from '../gateway/node/serve-gateway.ts';
import { readToken } from '../shared/keys.ts';
import { CLI_VARIABLE_NAMES, environment, podgateFolder } from './config.ts';
import { readDenyFile } from './deny-file.ts';
import { type Io, UsageError, write } from './io.ts';
import { issueAgentToken, issueCallerKey } from './issue-keys.ts';
import { hasKeyFolder, ISSUER, initKeyFolder, KEY_FILES, writeText } from './key-folder.ts';
import { parseCommand } from './parse-command.ts';
import { shellQuote } from './shell-quote.ts';
import { VERSION } from './version.ts';
import { waitUntilReady } from './wait-until-ready.ts';

const HELP = `Usage: podgate dev [--log] [--allow-remote]

Runs a gateway on HOST:PORT (127.0.0.1:8000) and an agent with the local backend, or EXECUTOR_BACKEND's, joined by a
WebSocket. Makes keys in PODGATE_DIR (.podgate) on its first start and writes a caller's key to .podgate/dev-key. Ctrl-C
ends it.

  --log            prints the log, one JSON line an event, to standard error
  --allow-remote   lets HOST be something other than this machine: the local backend is for development, so whoever
                   can reach the port and has a key runs code beside your own files and processes

It takes every variable that 'podgate gateway' and 'podgate agent' take; PODGATE_TEMPLATES names a templates file.
`;

const DEFAULT_CLUSTER = 'local';
const SUBJECT = 'dev';
const LOCAL_WARNING = ` The local backend isolates code with namespaces, seccomp and Landlock of this machine's
kernel: it is for development. For code of strangers run an agent in a cluster.`;
/** A key with less left than this is replaced at the start. */
const KEY_MARGIN_MS = 86_400_000;

/** `podgate dev`: runs until it is interrupted. */
export async function runDev(args: string[], io: Io): Promise<number> {
  const options = {
    log: { type: 'boolean' },
    'allow-remote': { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  } as const;
  const { values } = parseCommand('dev', () => parseArgs({ args, options }));
  if (values.help) {
    await write(io.stdout, HELP);
    return 0;
  }
  const dir = podgateFolder();
  const settings = devEnvironment(dir);
  const config = readGatewayConfig({
    environment: settings,
    alsoKnown: [...AGENT_VARIABLE_NAMES, ...CLI_VARIABLE_NAMES],
  });
  const isLocal = settings.EXECUTOR_BACKEND === 'local';
  if (isLocal && !isLoopback(config.host) && !values['allow-remote'])
    throw new UsageError(
      `HOST ${config.host} is more than this machine, and the local backend is for development. ` +
        "Use HOST=127.0.0.1, or say --allow-remote if you mean it ('podgate dev --help')",
    );
  await prepareKeys(dir, io);
  const log = devLog(values.log ?? false, io);
  await using stack = new AsyncDisposableStack();
  const gateway = await serveGateway({
    config: { ...config, metrics: settings.PODGATE_METRICS_PORT ? config.metrics : null },
    version: VERSION,
    log: log.gateway,
    signal: io.signal,
  });
  stack.defer(() => gateway.close());
  const agent = await startConfiguredAgent({
    config: await agentConfig(dir, settings, gateway),
    software: `podgate/${VERSION}`,
    signal: io.signal,
    log: log.agent,
  });
  stack.defer(() => agent.close());
  const obstacle = await waitUntilReady(gateway, agent.status, io);
  if (io.signal.aborted) return 0;
  await write(io.stdout, greeting(gateway.url, dir, obstacle, isLocal));
  if (!io.signal.aborted) await once(io.signal, 'abort');
  await write(io.stdout, '\nStopping; a second Ctrl-C stops at once.\n');
  await agent.drain(config.drainMs);
  // What has just ended is still to be answered.
  await gateway.drain(config.drainMs);
  return 0;
}

/** Makes what is missing: the keys, and a caller's key that is still good. Says what was revoked. */
async function prepareKeys(dir: string, io: Io): Promise<void> {
  if (!(await hasKeyFolder(dir))) await initKeyFolder(dir);
  const file = join(dir, 'dev-key');
  const nowMs = Date.now();
  // What is wrong with a list that cannot be read the gateway says.
  const denied = await readDenyFile(dir).catch(() => ({ jti: [], sub: [] }));
  if (denied.sub.some(({ issuer, sub }) => issuer === ISSUER.callers && sub === SUBJECT))
    await write(
      io.stderr,
      `podgate dev: All keys of the subject '${SUBJECT}' are revoked, and so is the one in ${file}: take the subject out of ${join(dir, KEY_FILES.deny)}, or use a key of another\n`,
    );
  const kept = await readGoodKey(file, nowMs);
  const isRevoked = denied.jti.some((jti) => jti === kept?.jti);
  if (kept && !isRevoked) return;
  const { text } = await issueCallerKey(
    dir,
    { sub: SUBJECT, scopes: ['execute', 'files', 'sessions', 'clusters'] },
    nowMs,
  );
  await writeText(file, `${text}\n`, 0o600, true);
  if (isRevoked)
    await write(io.stderr, `podgate dev: The key in ${file} was revoked: a new one is in its place\n`);
}

/** The claims of the key in `file`, if it was signed by the keys of this folder and has time left. */
async function readGoodKey(file: string, nowMs: number): Promise<{ jti?: unknown } | undefined> {
  const text = await readFile(file, 'utf8').catch(() => '');
  const parts = readToken(text.trim());
  if (!('claims' in parts)) return undefined;
  const claims = parts.claims as { exp?: unknown; jti?: unknown };
  if (typeof claims.exp !== 'number' || claims.exp * 1000 - nowMs < KEY_MARGIN_MS) return undefined;
  const keys = await readFile(join(file, '..', KEY_FILES.callersPublic), 'utf8').catch(() => '');
  const { kid } = parts.header as { kid?: unknown };
  return typeof kid === 'string' && keys.includes(JSON.stringify(kid)) ? claims : undefined;
}

/** What the user set, over what `dev` chooses. */
function devEnvironment(dir: string): Readonly<Record<string, string | undefined>> {
  const given = environment();
  return {
    PODGATE_ISSUERS: join(dir, KEY_FILES.issuers),
    PODGATE_DENY_LIST: join(dir, KEY_FILES.deny),
    PODGATE_ID_KEYS: join(dir, KEY_FILES.ids),
    FILE_STORAGE_DIR: join(dir, 'files'),
    EXECUTOR_BACKEND: 'local',
    PODGATE_CLUSTER: DEFAULT_CLUSTER,
    PODGATE_AGENT_PORT: '0',
    // It looks all the same, and nobody waits for it.
    PODGATE_CANARY: 'report',
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== '')),
  };
}

async function agentConfig(
  dir: string,
  settings: Readonly<Record<string, string | undefined>>,
  gateway: RunningGateway,
) {
  const cluster = settings.PODGATE_CLUSTER ?? DEFAULT_CLUSTER;
  const { text } = await issueAgentToken(dir, { clusters: [cluster], sub: 'dev-agent' }, Date.now());
  return readAgentConfig({
    environment: {
      ...settings,
      PODGATE_GATEWAY_URL: gateway.url,
      PODGATE_AGENT_TOKEN: text,
      PODGATE_AGENT_TOKEN_FILE: undefined,
      // Decided already, by --allow-remote.
      PODGATE_ALLOW_REMOTE: 'true',
    },
    alsoKnown: [...GATEWAY_VARIABLE_NAMES, ...CLI_VARIABLE_NAMES],
  });
}

type DevLog = {
  gateway: NonNullable<Parameters<typeof serveGateway>[0]['log']>;
  agent: NonNullable<Parameters<typeof startConfiguredAgent>[0]['log']>;
};

function devLog(loud: boolean, io: Io): DevLog {
  if (!loud) return { gateway: () => undefined, agent: () => undefined };
  const line = createJsonLog({ write: (text) => io.stderr.write(text), wall: Date.now });
  return {
    gateway: ({ event, ...fields }) => line(event, { of: 'gateway', ...fields }),
    agent: (event, fields) => line(event, { of: 'agent', ...fields }),
  };
}

function greeting(url: string, dir: string, obstacle: string | undefined, isLocal: boolean): string {
  const key = join(dir, 'dev-key');
  const trouble = obstacle === undefined ? '' : `\nIt cannot run code yet: ${obstacle}\n`;
  return `Podgate ${VERSION} listens on ${url}
${trouble}
Try it:

  curl -s ${url}/v1/execute -H "Authorization: Bearer $(cat ${shellQuote(key)})" -H 'Content-Type: application/json' -d '{"code": "print(6 * 7)"}'

The key in ${key} is yours alone.${isLocal ? LOCAL_WARNING : ''}
`;
}
