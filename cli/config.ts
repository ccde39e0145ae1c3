import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isLoopback } from '../agent/loopback.ts';
import { readBaseUrl } from '../client/base-url.ts';
import { printable, UsageError } from './io.ts';
import { readInputFile } from './read-input.ts';
import { shellQuote } from './shell-quote.ts';

const DEFAULT_HOST = '127.0.0.1';
const DEFAULT_PORT = '8000';
const EXAMPLE_URL = `http://${DEFAULT_HOST}:${DEFAULT_PORT}`;

/** Of a file that holds one; a key itself is shorter. */
export const MAX_KEY_BYTES = 65_536;

/** `PODGATE_*` names that the command itself reads. */
export const CLI_VARIABLE_NAMES: readonly string[] = [
  'PODGATE_DIR',
  'PODGATE_URL',
  'PODGATE_KEY',
  'PODGATE_KEY_FILE',
  'PODGATE_CLUSTER',
  'PODGATE_K8S_LOCAL',
  'PODGATE_K8S_PROVIDER',
  'PODGATE_K8S_CONTEXT',
  'PODGATE_DELETE_CLUSTER_ON_CLEANUP',
];

/** Folder with keys and configuration that `podgate dev` and `podgate keys` work in. */
export function podgateFolder(): string {
  return process.env.PODGATE_DIR || '.podgate';
}

/** `--dir` as a printed command needs it: nothing where the command would find the folder by itself. */
export function dirOption(dir: string): string {
  return dir === podgateFolder() ? '' : ` --dir ${shellQuote(dir)}`;
}

export type ClientConfig = { baseUrl: string; key: string; cluster: string | undefined };

/**
 * Where commands that ask a gateway go and with which key. The development key is used for loopback only: a key found on
 * disk is never sent to another host. Throws UsageError that names what is missing, and `PODGATE_*` names that nobody reads.
 */
export async function clientConfig(signal: AbortSignal): Promise<ClientConfig> {
  await refuseUnknownNames();
  const baseUrl = process.env.PODGATE_URL || devUrl();
  if (!URL.canParse(baseUrl))
    throw new UsageError(`PODGATE_URL '${withoutKey(baseUrl)}' is not a URL; it looks like ${EXAMPLE_URL}`);
  return { baseUrl, key: await findKey(baseUrl, signal), cluster: process.env.PODGATE_CLUSTER || undefined };
}

/** A machine may have the servers' names set as well. What knows them is loaded only where there is more than our own. */
async function refuseUnknownNames(): Promise<void> {
  const isOther = (name: string) => name.startsWith('PODGATE_') && !CLI_VARIABLE_NAMES.includes(name);
  if (!Object.keys(process.env).some(isOther)) return;
  const [{ unknownNames }, { GATEWAY_VARIABLE_NAMES }, { AGENT_VARIABLE_NAMES }] = await Promise.all([
    import('../shared/config-schema.ts'),
    import('../gateway/node/config.ts'),
    import('../agent/config.ts'),
  ]);
  const known = [...CLI_VARIABLE_NAMES, ...GATEWAY_VARIABLE_NAMES, ...AGENT_VARIABLE_NAMES];
  const faults = unknownNames(process.env, known);
  if (faults.length > 0) throw new UsageError(faults.map(({ message }) => message).join('\n'));
}

/** A URL that cannot be read may hold a key all the same: before an `@`, behind a `?`, or where one was forgotten. */
function withoutKey(url: string): string {
  const rest = url.replace(/^([a-z][a-z0-9+.-]*:\/\/)?.*@/is, '$1').replace(/[?#].*$/s, '');
  return printable(rest.replace(/eyJ[\w.-]*/g, '…'));
}

/** Where `podgate dev` listens with the same HOST and PORT. */
function devUrl(): string {
  const { HOST = '', PORT } = process.env;
  if (PORT && !(/^\d{1,5}$/.test(PORT) && Number(PORT) <= 65_535))
    throw new UsageError(`PORT '${PORT}' is no port; set PODGATE_URL, which looks like ${EXAMPLE_URL}`);
  const host = isLoopback(HOST) ? HOST : DEFAULT_HOST;
  return `http://${/^[^[].*:/.test(host) ? `[${host}]` : host}:${PORT || DEFAULT_PORT}`;
}

async function findKey(baseUrl: string, signal: AbortSignal): Promise<string> {
  const { base, key } = readUrl(baseUrl);
  if (process.env.PODGATE_KEY) return process.env.PODGATE_KEY.trim();
  if (process.env.PODGATE_KEY_FILE) return readKey(process.env.PODGATE_KEY_FILE, signal);
  if (key !== undefined) return key;
  if (isLoopback(base.hostname)) {
    const file = join(podgateFolder(), 'dev-key');
    const found = readIfThere(file).trim();
    if (found !== '') return found;
    throw new UsageError(
      `no key: set PODGATE_KEY or PODGATE_KEY_FILE, or start 'podgate dev' here, which writes ${file}`,
    );
  }
  throw new UsageError('no key: set PODGATE_KEY or PODGATE_KEY_FILE');
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** As the client will. */
function readUrl(baseUrl: string): ReturnType<typeof readBaseUrl> {
  try {
    return readBaseUrl(baseUrl);
  } catch (error) {
    throw new UsageError((error as Error).message.replace(/^baseUrl/, 'PODGATE_URL'));
  }
}

async function readKey(file: string, signal: AbortSignal): Promise<string> {
  const options = { name: `PODGATE_KEY_FILE ${file}`, maxBytes: MAX_KEY_BYTES, signal };
  const key = (await readInputFile(file, options)).toString().trim();
  if (key === '') throw new UsageError(`${options.name} is empty: write a key into it`);
  return key;
}

/** What kind of terminal the user has; undefined where it says none. */
export function terminalType(): string | undefined {
  return process.env.TERM || undefined;
}

/** The whole environment, for the gateway's and the agent's own configuration to check. */
export function environment(): NodeJS.ProcessEnv {
  return process.env;
}
