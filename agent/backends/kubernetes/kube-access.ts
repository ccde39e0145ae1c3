import { readFileSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent, type RequestOptions } from 'node:https';
import { Failure } from '../../../shared/errors.ts';
import { orAborted } from '../../deadline.ts';
import type { Log } from '../../log.ts';
import { forgetAnswers, hasPlugin, PLUGIN_TIMEOUT_MS, pluginTrouble, tellPlugin } from './exec-plugin.ts';
import { createFollowLog, type FollowLog } from './follow-log.ts';
import { impersonationHeaders } from './impersonation.ts';
import type { Cluster, Connection, Context, KubeAccess, KubeConfig, User } from './kube-config.ts';
import { configRefusal, fileTrouble } from './kube-config-files.ts';
import {
  bytesOf,
  checkCredential,
  checkFiles,
  checkServer,
  MAX_CREDENTIAL_BYTES,
} from './kube-credential.ts';

export const TOKEN_FILE_MAX_AGE_MS = 10_000;
const MAX_SOCKETS = 32;
/** A proxy that is silent for so long before there is a way through it is given up, and its socket with it. */
export const PROXY_TIMEOUT_MS = 15_000;

export type AccessOptions = {
  /** For messages: the file that the context is in. */
  where: string;
  /** What is wrong with files that may hold what is not found. */
  others: string;
  log?: Log | undefined;
  proxyTimeoutMs?: number | undefined;
};

/** What one context says. Throws a Failure (`invalid_request`) when it cannot be used. */
export function accessContext(
  config: KubeConfig,
  context: string,
  { where, others, log = () => {}, proxyTimeoutMs = PROXY_TIMEOUT_MS }: AccessOptions,
): KubeAccess {
  const found = config.getContextObject(context);
  if (!found) throw configRefusal(`${where} has no context '${context}'.`);
  const cluster = config.clusters.find(({ name }) => name === found.cluster);
  const user = config.users.find(({ name }) => name === found.user);
  if (!cluster)
    throw configRefusal(
      `Context '${context}' of ${where} names the cluster '${found.cluster}', which is not there.${others}`,
    );
  // Some servers let everybody in: what `kubectl proxy` opens, for one.
  if (!user && found.user !== undefined)
    throw configRefusal(
      `Context '${context}' of ${where} names the user '${found.user}', which is not there.${others}`,
    );
  checkServer(context, where, { cluster, user });
  checkFiles(context, where, [cluster.caFile, user?.certFile, user?.keyFile]);
  checkCredential(context, where, { cluster, user });

  const isHttps = cluster.server.startsWith('https:');
  const view = viewOf(config, found, { cluster, user });
  const ownAgent = () => new (isHttps ? Agent : HttpAgent)({ keepAlive: true, maxSockets: MAX_SOCKETS });
  const agent = ownAgent();
  const vitalAgent = ownAgent();
  const readToken = tokenFileReader(tokenFileOf(user), {
    hasOther: Boolean(user?.token),
    told: createFollowLog(log),
  });
  let proxied: { credentials: string; agent: HttpAgent } | undefined;
  let asking: Promise<RequestOptions> | undefined;

  async function ask(): Promise<RequestOptions> {
    const options: RequestOptions = { headers: {}, ...proxyTimeout(cluster?.proxyUrl, proxyTimeoutMs) };
    try {
      // What the library would cache is an agent that never sees a rotated certificate.
      Object.assign(view, { agentCache: new Map() });
      // A plugin that was ended may have left somebody who holds its output open.
      await orAborted(view.applyToHTTPSOptions(options), AbortSignal.timeout(PLUGIN_TIMEOUT_MS));
      if (user && hasPlugin(user) && !options.cert && !plainHeaders(options.headers).authorization)
        throw new Error('There is neither a token nor a certificate in what it said.');
      return options;
    } catch (cause) {
      const who = user ? `, user '${user.name}'` : '';
      const why = user && hasPlugin(user) ? pluginTrouble(user, cause as object) : '';
      forgetAnswers(view);
      const detail = `No credential can be had for context '${context}'${who}${why}.`;
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
    const headers = { ...plainHeaders(options.headers), ...(user && impersonationHeaders(user)) };
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
    isProxied: Boolean(cluster.proxyUrl),
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

/** Contexts share the authenticators and what they cache, and nothing else. */
function viewOf(
  config: KubeConfig,
  found: Context,
  { cluster, user }: { cluster: Cluster; user: User | undefined },
): KubeConfig {
  const view: KubeConfig = Object.create(config);
  // Without a user the library forgets the cluster's authority, and of plain http it wants to be told that it is meant.
  const own = tellPlugin({ name: '', ...user }, cluster, bytesOf(cluster.caFile, cluster.caData));
  // The library reads a token's file too, and fails with the first time that it is not there.
  if (tokenFileOf(user) !== undefined) own.authProvider = undefined;
  view.users = [own];
  view.clusters = [
    { ...cluster, skipTLSVerify: cluster.skipTLSVerify || cluster.server.startsWith('http:') },
  ];
  view.contexts = [{ ...found, user: own.name }];
  view.currentContext = found.name;
  return view;
}

/**
 * What asks a proxy for a way through does not know of the request that waits for it, and outlives it. For SOCKS the
 * library has a bound of its own, and would take this one for that of a silent watch.
 */
function proxyTimeout(url: string | undefined, timeout: number): RequestOptions {
  return url === undefined || url.startsWith('socks') ? {} : { timeout };
}

function keepNone(agent: HttpAgent): void {
  agent.maxFreeSockets = 0;
  for (const sockets of Object.values(agent.freeSockets))
    for (const socket of sockets ?? []) socket.destroy();
}

function tokenFileOf(user: User | undefined): string | undefined {
  const { config } = (user?.authProvider ?? {}) as { config?: { tokenFile?: string } };
  return config?.tokenFile;
}

/**
 * Follows a token that is renewed in its file, as the kubelet does with a service account's. `hasOther`: where it was never
 * read, the kubeconfig has one itself.
 */
function tokenFileReader(
  path: string | undefined,
  { hasOther, told }: { hasOther: boolean; told: FollowLog },
): () => string | undefined {
  let token: string | undefined;
  let readAtMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (path === undefined || performance.now() - readAtMs < TOKEN_FILE_MAX_AGE_MS) return token;
    try {
      const trouble = fileTrouble(path, MAX_CREDENTIAL_BYTES);
      if (trouble !== undefined)
        throw new Failure('backend_unavailable', `The token file '${path}' ${trouble}.`);
      const text = readFileSync(path, 'utf8').trim();
      // Whoever writes it anew may empty it first.
      if (text === '') throw new Failure('backend_unavailable', `The token file '${path}' is empty.`);
      token = text;
      readAtMs = performance.now();
      told.succeeded();
    } catch (cause) {
      const failure =
        cause instanceof Failure
          ? cause
          : new Failure('backend_unavailable', `The token file '${path}' cannot be read.`, { cause });
      if (token === undefined && !hasOther) throw failure;
      if (token !== undefined) told.failed(failure);
    }
    return token;
  };
}

function plainHeaders(headers: RequestOptions['headers']): Record<string, string | string[]> {
  const entries = Object.entries(headers ?? {}).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name.toLowerCase(), String(value).trim()]));
}

function definedOnly(options: Record<string, unknown>): Connection['tls'] {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
