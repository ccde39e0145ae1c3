import { existsSync, readFileSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent, type RequestOptions } from 'node:https';
import { homedir } from 'node:os';
import { join } from 'node:path';
// The library takes 90 MB and more than half a second to load: it is imported when a cluster is there to be reached.
import type { KubeConfig, User } from '@kubernetes/client-node';
import { Failure } from '../../../shared/errors.ts';
import { orAborted } from '../../deadline.ts';
import { contextNames } from './context-names.ts';
import { hasPlugin, limitPlugins, PLUGIN_TIMEOUT_MS } from './exec-plugin.ts';
import { followAccess } from './followed-access.ts';
import { configRefusal, detailsOf, readKubeConfigs, stampOf } from './kube-config-files.ts';
import { checkCredential, checkFiles } from './kube-credential.ts';

export type {
  Cluster,
  KubeConfig,
  User,
  V1Pod,
  V1PodSecurityContext,
  V1PodSpec,
  V1ResourceRequirements,
} from '@kubernetes/client-node';

/** What Kubernetes mounts in a pod that has a service account. */
const OWN_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';
const TOKEN_FILE_MAX_AGE_MS = 10_000;
const MAX_SOCKETS = 32;

/** What one request or one upgrade needs at this moment: tokens rotate, and so do certificates. */
export type Connection = {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: Pick<RequestOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized' | 'servername'>;
  /** Reaches the server through its proxy; undefined without one. */
  readonly proxy: HttpAgent | undefined;
};

/** One context of a kubeconfig: where its API server is, and how to be let in. */
export type KubeAccess = {
  readonly context: string;
  /** Without a slash at its end. */
  readonly server: string;
  /** The context's own; undefined where it names none. */
  readonly namespace: string | undefined;
  /** Sockets of plain requests, kept open. The library's own REST client opens a new one, with its handshake, for each. */
  readonly agent: HttpAgent;
  /** Sockets that nothing else may take: what keeps the instance alive does not wait behind calls that hang. */
  readonly vitalAgent: HttpAgent;
  /** Throws a Failure (`backend_unavailable`) that names context and user when no credential can be had. */
  connection(): Promise<Connection>;
  /** The server does not take the credential (401). Resolves with true where there may be another one now. */
  refused(): Promise<boolean>;
  /** Keeps no socket for later; those in use go on. */
  retire(): void;
  close(): void;
};

export type KubeContexts = {
  readonly current: string;
  readonly names: readonly string[];
  /** Of several files those that cannot be used; the contexts of the others can. */
  readonly problems: readonly Failure[];
  /** What was read, for messages. */
  readonly where: string;
  /** The file that a context is in, for messages. */
  fileOf(context: string): string;
  /** Throws a Failure (`invalid_request`) when the context is unknown or cannot be used. */
  access(context: string): KubeAccess;
};

/**
 * Reads kubeconfig files, several joined by `:`; without `paths` the one in the home directory, else the cluster that
 * this process runs in. Throws a Failure (`invalid_request`) that names the file and what is wrong with it. What is
 * changed in the files later is followed, as far as one context's server and credential go.
 */
export async function loadKubeContexts(paths = ownConfig()): Promise<KubeContexts> {
  const stamp = () => (paths === undefined ? '' : stampOf(paths));
  const firstStamp = stamp();
  const contexts = await readContexts(paths);
  return {
    ...contexts,
    access: (context) =>
      followAccess({
        first: contexts.access(context),
        firstStamp,
        read: async () => (await readContexts(paths)).access(context),
        stamp,
      }),
  };
}

function ownConfig(): string | undefined {
  const path = join(homedir(), '.kube', 'config');
  return existsSync(path) ? path : undefined;
}

async function readContexts(paths: string | undefined): Promise<KubeContexts> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  if (paths === undefined) {
    if (!existsSync(OWN_TOKEN))
      throw configRefusal('There is no kubeconfig: set KUBECONFIG, or run the agent inside the cluster.');
    const config = new KubeConfig();
    config.loadFromCluster();
    const where = 'the cluster that the agent runs in';
    return contextsOf(config, { problems: [], where, fileOf: () => where });
  }
  const { config, problems, sources } = readKubeConfigs(() => new KubeConfig(), paths);
  limitPlugins(config);
  const fileOf = (context: string) => sources.get(context) ?? paths;
  return contextsOf(config, { problems, where: paths, fileOf });
}

function contextsOf(
  config: KubeConfig,
  read: Pick<KubeContexts, 'problems' | 'where' | 'fileOf'>,
): KubeContexts {
  const { problems, fileOf } = read;
  const others = detailsOf(problems);
  return {
    ...read,
    current: config.getCurrentContext() ?? '',
    names: config.getContexts().map((context) => context.name),
    access(context) {
      if (config.getContexts().some(({ name }) => name === context))
        return accessContext(config, context, { where: fileOf(context), others });
      const known = contextNames(config.getContexts().map(({ name }) => name));
      throw configRefusal(`${fileOf(context)} has no context '${context}': it has ${known}.${others}`);
    },
  };
}

/** `others`: what is wrong with files that may hold what is not found. */
function accessContext(
  config: KubeConfig,
  context: string,
  { where, others }: { where: string; others: string },
): KubeAccess {
  const found = config.getContextObject(context);
  if (!found) throw configRefusal(`${where} has no context '${context}'.`);
  const cluster = config.clusters.find(({ name }) => name === found.cluster);
  const user = config.users.find(({ name }) => name === found.user);
  if (!cluster)
    throw configRefusal(
      `Context '${context}' of ${where} names the cluster '${found.cluster}', which is not there.${others}`,
    );
  if (!user)
    throw configRefusal(
      `Context '${context}' of ${where} names the user '${found.user}', which is not there.${others}`,
    );
  if (!URL.canParse(cluster.server) || !/^https?:/.test(cluster.server))
    throw configRefusal(`Context '${context}' of ${where} has a server that is no URL.`);
  checkFiles(context, where, [cluster.caFile, user.certFile, user.keyFile]);
  checkCredential(context, where, { cluster, user });

  // Contexts share the authenticators and what they cache, and nothing else.
  const view: KubeConfig = Object.create(config);
  view.currentContext = context;
  const isHttps = cluster.server.startsWith('https:');
  const ownAgent = () => new (isHttps ? Agent : HttpAgent)({ keepAlive: true, maxSockets: MAX_SOCKETS });
  const agent = ownAgent();
  const vitalAgent = ownAgent();
  const readToken = tokenFileReader(user);
  let proxied: { credentials: string; agent: HttpAgent } | undefined;
  let asking: Promise<RequestOptions> | undefined;

  async function ask(): Promise<RequestOptions> {
    const options: RequestOptions = { headers: {} };
    try {
      // What the library would cache is an agent that never sees a rotated certificate.
      Object.assign(view, { agentCache: new Map() });
      // A plugin that was ended may have left somebody who holds its output open.
      await orAborted(view.applyToHTTPSOptions(options), AbortSignal.timeout(PLUGIN_TIMEOUT_MS));
      return options;
    } catch (cause) {
      const detail = `No credential can be had for context '${context}', user '${found?.user}'.`;
      throw new Failure('backend_unavailable', detail, { cause });
    } finally {
      asking = undefined;
    }
  }

  async function connection(): Promise<Connection> {
    const token = readToken();
    // One plugin for all who wait.
    if (user && hasPlugin(user)) asking ??= ask();
    const options = await (asking ?? ask());
    const { ca, cert, key, rejectUnauthorized, servername, auth } = options;
    const headers = plainHeaders(options.headers);
    if (auth) headers.authorization = `Basic ${Buffer.from(auth).toString('base64')}`;
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    const tls = definedOnly({ ca, cert, key, rejectUnauthorized, servername });
    if (cluster?.proxyUrl === undefined) return { headers, tls, proxy: undefined };
    const credentials = JSON.stringify([ca, cert, key].map(String));
    if (proxied?.credentials !== credentials) {
      if (proxied) keepNone(proxied.agent);
      proxied = { credentials, agent: options.agent as HttpAgent };
    }
    return { headers, tls, proxy: proxied.agent };
  }

  return {
    context,
    server: cluster.server.replace(/\/+$/, ''),
    namespace: found.namespace,
    agent,
    vitalAgent,
    connection,
    refused: () => Promise.resolve(false),
    retire() {
      for (const each of [agent, vitalAgent, proxied?.agent]) if (each) keepNone(each);
    },
    close() {
      agent.destroy();
      vitalAgent.destroy();
      proxied?.agent.destroy();
    },
  };
}

function keepNone(agent: HttpAgent): void {
  agent.maxFreeSockets = 0;
  for (const sockets of Object.values(agent.freeSockets))
    for (const socket of sockets ?? []) socket.destroy();
}

/** Follows a token that is renewed in its file, as the kubelet does with a service account's. */
function tokenFileReader(user: User): () => string | undefined {
  const path = (user.authProvider as { config?: { tokenFile?: string } } | undefined)?.config?.tokenFile;
  let token: string | undefined;
  let readAtMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (path === undefined || performance.now() - readAtMs < TOKEN_FILE_MAX_AGE_MS) return token;
    try {
      token = readFileSync(path, 'utf8').trim();
      readAtMs = performance.now();
    } catch (cause) {
      if (token === undefined)
        throw new Failure('backend_unavailable', `The token file '${path}' cannot be read.`, { cause });
    }
    return token;
  };
}

function plainHeaders(headers: RequestOptions['headers']): Record<string, string> {
  const entries = Object.entries(headers ?? {}).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name.toLowerCase(), String(value).trim()]));
}

function definedOnly(options: Record<string, unknown>): Connection['tls'] {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
