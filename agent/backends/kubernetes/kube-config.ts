import { X509Certificate } from 'node:crypto';
import { accessSync, constants, readFileSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent, type RequestOptions } from 'node:https';
import { delimiter, dirname, resolve } from 'node:path';
// The library takes 90 MB and more than half a second to load: it is imported when a cluster is there to be reached.
import type { KubeConfig, User } from '@kubernetes/client-node';
import { parse } from 'yaml';
import { Failure } from '../../../shared/errors.ts';

export type { V1Pod, V1PodSecurityContext, V1PodSpec, V1ResourceRequirements } from '@kubernetes/client-node';

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
  /** Throws a Failure (`backend_unavailable`) that names context and user when no credential can be had. */
  connection(): Promise<Connection>;
  close(): void;
};

export type KubeContexts = {
  readonly current: string;
  readonly names: readonly string[];
  /** Throws a Failure (`invalid_request`) when the context is unknown or cannot be used. */
  access(context: string): KubeAccess;
};

/**
 * Reads kubeconfig files, several joined by `:`; without `paths` the one in the home directory, else the cluster that
 * this process runs in. Throws a Failure (`invalid_request`) that names the file and what is wrong with it.
 */
export async function loadKubeContexts(paths?: string): Promise<KubeContexts> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  if (paths === undefined) {
    config.loadFromDefault();
    if (config.getCurrentContext() === 'loaded-context')
      throw refusal('There is no kubeconfig: set KUBECONFIG, or run the agent inside the cluster.');
  } else {
    const files = paths.split(delimiter).filter((path) => path !== '');
    if (files.length === 0) throw refusal('KUBECONFIG is empty: use the path of a kubeconfig.');
    files.forEach((file, index) => {
      const one = new KubeConfig();
      readInto(one, resolve(file));
      merge(config, one, index === 0);
    });
  }
  const where = paths ?? 'the kubeconfig';
  return {
    current: config.getCurrentContext() ?? '',
    names: config.getContexts().map((context) => context.name),
    access: (context) => accessContext(config, context, where),
  };
}

function readInto(config: KubeConfig, file: string): void {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw refusal(`The kubeconfig '${file}' cannot be read (${code}).`, cause);
  }
  try {
    config.loadFromString(text);
    config.makePathsAbsolute(dirname(file));
    adoptTokenFiles(config, parse(text), dirname(file));
  } catch (cause) {
    throw refusal(`The kubeconfig '${file}' is malformed.`, cause);
  }
  if (config.getContexts().length === 0) throw refusal(`The kubeconfig '${file}' holds no context.`);
}

/** As kubectl does: of two entries with one name the first counts. */
function merge(into: KubeConfig, from: KubeConfig, isFirst: boolean): void {
  const firsts = <T extends { name: string }>(a: T[], b: T[]) => [
    ...a,
    ...b.filter((entry) => !a.some((known) => known.name === entry.name)),
  ];
  into.clusters = firsts(into.clusters, from.clusters);
  into.users = firsts(into.users, from.users);
  into.contexts = firsts(into.contexts, from.contexts);
  if (isFirst || !into.currentContext) into.currentContext = from.currentContext;
}

/** The library knows `tokenFile` under another name, and reads it once. */
function adoptTokenFiles(config: KubeConfig, raw: unknown, directory: string): void {
  const { users = [] } = raw as { users?: { name: string; user?: { tokenFile?: string; token?: string } }[] };
  config.users = config.users.map((user) => {
    const given = users.find(({ name }) => name === user.name)?.user;
    if (given?.tokenFile === undefined || given.token !== undefined) return user;
    return {
      ...user,
      authProvider: { name: 'tokenFile', config: { tokenFile: resolve(directory, given.tokenFile) } },
    };
  });
}

function accessContext(config: KubeConfig, context: string, where: string): KubeAccess {
  const found = config.getContexts().find(({ name }) => name === context);
  if (!found) {
    const known = config.getContexts().map(({ name }) => `'${name}'`);
    throw refusal(`${where} has no context '${context}': it has ${known.join(', ')}.`);
  }
  const cluster = config.clusters.find(({ name }) => name === found.cluster);
  const user = config.users.find(({ name }) => name === found.user);
  if (!cluster)
    throw refusal(
      `Context '${context}' of ${where} names the cluster '${found.cluster}', which is not there.`,
    );
  if (!user)
    throw refusal(`Context '${context}' of ${where} names the user '${found.user}', which is not there.`);
  if (!URL.canParse(cluster.server) || !/^https?:/.test(cluster.server))
    throw refusal(`Context '${context}' of ${where} has a server that is no URL.`);
  checkFiles(context, where, [cluster.caFile, user.certFile, user.keyFile]);
  checkCertificate(context, where, user);

  // Contexts share the authenticators and what they cache, and nothing else.
  const view: KubeConfig = Object.create(config);
  view.currentContext = context;
  const isHttps = cluster.server.startsWith('https:');
  const agent = new (isHttps ? Agent : HttpAgent)({ keepAlive: true, maxSockets: MAX_SOCKETS });
  const readToken = tokenFileReader(user);
  let proxied: { credentials: string; agent: HttpAgent } | undefined;

  async function connection(): Promise<Connection> {
    const options: RequestOptions = { headers: {} };
    try {
      // What the library would cache is an agent that never sees a rotated certificate.
      Object.assign(view, { agentCache: new Map() });
      await view.applyToHTTPSOptions(options);
    } catch (cause) {
      const detail = `No credential can be had for context '${context}', user '${found?.user}'.`;
      throw new Failure('backend_unavailable', detail, { cause });
    }
    const { ca, cert, key, rejectUnauthorized, servername, auth } = options;
    const headers = plainHeaders(options.headers);
    if (auth) headers.authorization = `Basic ${Buffer.from(auth).toString('base64')}`;
    const token = readToken();
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    const tls = definedOnly({ ca, cert, key, rejectUnauthorized, servername });
    if (cluster?.proxyUrl === undefined) return { headers, tls, proxy: undefined };
    const credentials = JSON.stringify([ca, cert, key].map(String));
    if (proxied?.credentials !== credentials) {
      proxied?.agent.destroy();
      proxied = { credentials, agent: options.agent as HttpAgent };
    }
    return { headers, tls, proxy: proxied.agent };
  }

  return {
    context,
    server: cluster.server.replace(/\/+$/, ''),
    namespace: found.namespace,
    agent,
    connection,
    close() {
      agent.destroy();
      proxied?.agent.destroy();
    },
  };
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

function checkFiles(context: string, where: string, files: readonly (string | undefined)[]): void {
  for (const file of files) {
    try {
      if (file) accessSync(file, constants.R_OK);
    } catch (cause) {
      throw refusal(
        `Context '${context}' of ${where} names the file '${file}', which cannot be read.`,
        cause,
      );
    }
  }
}

function checkCertificate(context: string, where: string, { certFile, certData }: User): void {
  if (!certFile && !certData) return;
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(
      certFile ? readFileSync(certFile) : Buffer.from(certData ?? '', 'base64'),
    );
  } catch (cause) {
    throw refusal(`Context '${context}' of ${where} has a client certificate that cannot be read.`, cause);
  }
  if (certificate.validToDate.getTime() < Date.now())
    throw refusal(
      `The client certificate of context '${context}' of ${where} expired on ${certificate.validToDate.toISOString()}.`,
    );
}

function plainHeaders(headers: RequestOptions['headers']): Record<string, string> {
  const entries = Object.entries(headers ?? {}).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name.toLowerCase(), String(value).trim()]));
}

function definedOnly(options: Record<string, unknown>): Connection['tls'] {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function refusal(detail: string, cause?: unknown): Failure {
  return new Failure('invalid_request', detail, { cause });
}
