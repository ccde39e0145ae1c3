import * as z from 'zod';
import {
  choiceVariable,
  type Environment,
  integerVariable,
  listVariable,
  readEnvironment,
  textVariable,
} from '../../shared/config-schema.ts';
import { Failure } from '../../shared/errors.ts';
import { toOrigin } from '../../shared/proof.ts';
import { type DocumentSource, documentUrl } from '../auth/documents.ts';
import type { FileStoreLimits } from '../files/file-ledger.ts';
import { DEFAULT_GATEWAY_CONFIG, type GatewayConfig } from '../gateway-deps.ts';

const MIB = 1_048_576;
const MAX_FILES = 1_000_000;
/** A link that was silent for so many heartbeats is dead. */
const DEAD_HEARTBEATS = 2.5;
/** Long enough for a balancer that asks /ready every second, and for connections in use to end with an answer. */
const REPLICA_DRAIN_DELAY_MS = 2_000;

/** What a gateway process is started with. */
export type GatewayProcessConfig = {
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  /** Null: no metrics port. */
  readonly metrics: { readonly host: string; readonly port: number } | null;
  readonly issuersFile: string;
  readonly denyList: DocumentSource | null;
  /** Null: keys that last as long as the process, for one replica. */
  readonly idKeysFile: string | null;
  /** As agents dial this gateway; empty: the address it listens on. */
  readonly origins: readonly string[];
  /** Null: this gateway keeps no files. */
  readonly files: { readonly directory: string; readonly limits: FileStoreLimits } | null;
  /** What is asked is still taken for so long once a drain is announced: balancers look elsewhere meanwhile. */
  readonly drainDelayMs: number;
  readonly drainMs: number;
  readonly gateway: Omit<GatewayConfig, 'version' | 'serverId' | 'severalTenants'>;
};

/** Every variable that a gateway reads. */
const VARIABLES = {
  HOST: textVariable('use an address or a host name').default('127.0.0.1'),
  PORT: integerVariable(0, 65_535).default(8_000),
  PODGATE_METRICS_PORT: integerVariable(0, 65_535).default(9_090),
  PODGATE_ISSUERS: textVariable('use the path of the file that "podgate keys init" made'),
  PODGATE_DENY_LIST: documentVariable().optional(),
  PODGATE_ID_KEYS: textVariable('use the path of the file that "podgate keys init" made').optional(),
  PODGATE_ORIGINS: listVariable('use origins such as https://podgate.example, separated by commas')
    .pipe(z.array(originVariable()))
    .default([]),
  PODGATE_TERMINAL_ORIGINS: listVariable('use origins such as https://podgate.example, separated by commas')
    .pipe(z.array(originVariable()))
    .default([]),
  PODGATE_REPLICAS: integerVariable(1, 10_000).default(DEFAULT_GATEWAY_CONFIG.replicas),
  PODGATE_HEARTBEAT_MS: integerVariable(1_000, 30_000).default(DEFAULT_GATEWAY_CONFIG.heartbeatMs),
  PODGATE_DRAIN_DELAY_MS: integerVariable(0, 600_000).optional(),
  PODGATE_DRAIN_MS: integerVariable(0, 3_600_000).default(30_000),
  PODGATE_OUTPUT_MEMORY_MB: integerVariable(16, 1_048_576).default(
    DEFAULT_GATEWAY_CONFIG.outputMemoryBytes / MIB,
  ),
  PODGATE_MAX_LINKS_PER_TENANT: integerVariable(1, 1_000_000).default(
    DEFAULT_GATEWAY_CONFIG.maxLinksPerTenant,
  ),
  MAX_EXEC_TIMEOUT_MS: integerVariable(1, 86_400_000).default(DEFAULT_GATEWAY_CONFIG.maxTimeoutMs),
  MAX_OUTPUT_BYTES: integerVariable(0, 4_294_967_296).default(DEFAULT_GATEWAY_CONFIG.maxOutputBytes),
  MAX_FILE_SIZE_MB: integerVariable(1, 1_048_576).default(DEFAULT_GATEWAY_CONFIG.maxFileBytes / MIB),
  FILE_TTL_SEC: integerVariable(1, 31_536_000).default(3_600),
  PODGATE_FILE_STORE: choiceVariable(['folder', 'none']).default('folder'),
  FILE_STORAGE_DIR: textVariable('use the path of a folder').default('.podgate/files'),
  FILE_STORE_MAX_BYTES: integerVariable(MIB, Number.MAX_SAFE_INTEGER).default(10_737_418_240),
};

/** Names that a command which also runs something else must let through. */
export const GATEWAY_VARIABLE_NAMES: readonly string[] = Object.keys(VARIABLES);

export type GatewayConfigOptions = {
  environment?: Environment;
  /** `PODGATE_*` names that another part of the same command reads. */
  alsoKnown?: readonly string[];
};

/** Reads and checks the gateway's configuration once. Throws one Failure that names everything that is wrong. */
export function readGatewayConfig(options: GatewayConfigOptions = {}): GatewayProcessConfig {
  const { environment = process.env, alsoKnown = [] } = options;
  const values = readEnvironment(VARIABLES, environment, { alsoKnown, secrets: ['PODGATE_DENY_LIST'] });
  const maxFileBytes = values.MAX_FILE_SIZE_MB * MIB;
  const stored = values.PODGATE_FILE_STORE === 'folder';
  const alone = values.PODGATE_REPLICAS === 1;
  if (stored && !alone) throw folderNeedsOneReplica(values.PODGATE_REPLICAS);
  if (!alone && values.PODGATE_ID_KEYS === undefined) throw replicasNeedIdKeys(values.PODGATE_REPLICAS);
  return Object.freeze({
    host: values.HOST,
    port: values.PORT,
    metrics: Object.freeze({ host: values.HOST, port: values.PODGATE_METRICS_PORT }),
    issuersFile: values.PODGATE_ISSUERS,
    denyList: values.PODGATE_DENY_LIST ?? null,
    idKeysFile: values.PODGATE_ID_KEYS ?? null,
    origins: Object.freeze(values.PODGATE_ORIGINS),
    files: stored
      ? Object.freeze({
          directory: values.FILE_STORAGE_DIR,
          limits: Object.freeze({
            maxFileBytes,
            maxBytes: values.FILE_STORE_MAX_BYTES,
            maxFiles: MAX_FILES,
            ttlMs: values.FILE_TTL_SEC * 1_000,
          }),
        })
      : null,
    drainDelayMs: values.PODGATE_DRAIN_DELAY_MS ?? (alone ? 0 : REPLICA_DRAIN_DELAY_MS),
    drainMs: values.PODGATE_DRAIN_MS,
    gateway: Object.freeze({
      ...DEFAULT_GATEWAY_CONFIG,
      terminalOrigins: values.PODGATE_TERMINAL_ORIGINS,
      replicas: values.PODGATE_REPLICAS,
      maxTimeoutMs: values.MAX_EXEC_TIMEOUT_MS,
      maxOutputBytes: values.MAX_OUTPUT_BYTES,
      maxFileBytes,
      outputMemoryBytes: values.PODGATE_OUTPUT_MEMORY_MB * MIB,
      maxLinksPerTenant: values.PODGATE_MAX_LINKS_PER_TENANT,
      heartbeatMs: values.PODGATE_HEARTBEAT_MS,
      deadMs: values.PODGATE_HEARTBEAT_MS * DEAD_HEARTBEATS,
    }),
  });
}

/** A file that one replica has stored would be missing at every other. */
function folderNeedsOneReplica(replicas: number): Failure {
  const message = `PODGATE_REPLICAS: '${replicas}' is not accepted: files are kept in a folder, which serves one replica. Set PODGATE_FILE_STORE=none to run more without files`;
  return new Failure('invalid_request', `${message}.`, { errors: [{ path: 'PODGATE_REPLICAS', message }] });
}

/** A session or execution that one replica was asked for would be none at every other. */
function replicasNeedIdKeys(replicas: number): Failure {
  const message = `PODGATE_REPLICAS: '${replicas}' is not accepted: each would make keys of ids of its own. Set PODGATE_ID_KEYS to one file for all, the ids.json that "podgate keys init" made`;
  return new Failure('invalid_request', `${message}.`, { errors: [{ path: 'PODGATE_REPLICAS', message }] });
}

/** Whatever reads as a URL is one: a file of such a name would only hide a mistake. */
function documentVariable() {
  const allowed = 'use the path of a file or an https:// URL without a user name';
  return textVariable(allowed).transform((text, context): DocumentSource => {
    if (!text.includes('://') && !URL.canParse(text)) return { file: text };
    if (documentUrl.safeParse(text).success) return { url: text };
    context.addIssue({ code: 'custom', message: allowed });
    return z.NEVER;
  });
}

function originVariable() {
  const allowed = 'use origins such as https://podgate.example, separated by commas';
  return z.string().transform((text, context) => {
    try {
      return toOrigin(text);
    } catch {
      context.addIssue({ code: 'custom', message: allowed });
      return z.NEVER;
    }
  });
}
