import { existsSync } from 'node:fs';
import type { Agent as HttpAgent } from 'node:http';
import type { RequestOptions } from 'node:https';
import { homedir } from 'node:os';
import { join } from 'node:path';
// The library takes 90 MB and more than half a second to load: it is imported when a cluster is there to be reached.
import type { KubeConfig } from '@kubernetes/client-node';
import type { Failure } from '../../../shared/errors.ts';
import type { Log } from '../../log.ts';
import type { ProxyTo } from '../../proxy.ts';
import { contextNames } from './context-names.ts';
import { limitPlugins } from './exec-plugin.ts';
import { createFollowLog } from './follow-log.ts';
import { followAccess } from './followed-access.ts';
import { accessContext } from './kube-access.ts';
import { configRefusal, detailsOf, readKubeConfigs, stampOf } from './kube-config-files.ts';

export type {
  Cluster,
  Context,
  KubeConfig,
  User,
  V1Pod,
  V1PodSecurityContext,
  V1PodSpec,
  V1ResourceRequirements,
} from '@kubernetes/client-node';

/** What Kubernetes mounts in a pod that has a service account. */
export const OWN_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

/** What one request or one upgrade needs at this moment: tokens rotate, and so do certificates. */
export type Connection = {
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly tls: Pick<RequestOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized' | 'servername'>;
  /** Reaches the server through its proxy; undefined without one. */
  readonly proxy: HttpAgent | undefined;
};

/** One context of a kubeconfig: where its API server is, and how to be let in. */
export type KubeAccess = {
  readonly context: string;
  /** Without a slash at its end. */
  readonly server: string;
  /** There is a proxy before it. */
  readonly isProxied: boolean;
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

export type KubeConfigOptions = {
  /** The way to servers of a kubeconfig that names no proxy itself. */
  proxyTo?: ProxyTo;
  /** Told of what is followed and cannot be read any more. */
  log?: Log;
  /** Only tests have reason to set this one and the next. */
  proxyTimeoutMs?: number;
  /** The folder that OWN_TOKEN and its neighbours are looked for in; `/` unless given. */
  root?: string;
};

/**
 * Reads kubeconfig files, several joined by `:`; without `paths` the one in the home directory, else the cluster that
 * this process runs in. Throws a Failure (`invalid_request`) that names the file and what is wrong with it. What is
 * changed in the files later is followed, as far as one context's server and credential go.
 */
export async function loadKubeContexts(
  paths = ownConfig(),
  options: KubeConfigOptions = {},
): Promise<KubeContexts> {
  const stamp = () => (paths === undefined ? '' : stampOf(paths));
  const firstStamp = stamp();
  const contexts = await readContexts(paths, options);
  return {
    ...contexts,
    access: (context) =>
      followAccess({
        first: contexts.access(context),
        firstStamp,
        read: async () => (await readContexts(paths, options)).access(context),
        stamp,
        told: createFollowLog(options.log ?? (() => {})),
      }),
  };
}

function ownConfig(): string | undefined {
  const path = join(homedir(), '.kube', 'config');
  return existsSync(path) ? path : undefined;
}

async function readContexts(paths: string | undefined, options: KubeConfigOptions): Promise<KubeContexts> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  if (paths === undefined) {
    const { root = '' } = options;
    if (!existsSync(root + OWN_TOKEN))
      throw configRefusal('There is no kubeconfig: set KUBECONFIG, or run the agent inside the cluster.');
    const config = new KubeConfig();
    config.loadFromCluster(root);
    const where = 'the cluster that the agent runs in';
    return contextsOf(config, { problems: [], where, fileOf: () => where }, options);
  }
  const { config, problems, sources } = readKubeConfigs(() => new KubeConfig(), paths);
  limitPlugins(config);
  adoptProxies(config, options.proxyTo);
  const fileOf = (context: string) => sources.get(context) ?? paths;
  return contextsOf(config, { problems, where: paths, fileOf }, options);
}

/** What a kubeconfig says itself goes first. */
function adoptProxies(config: KubeConfig, proxyTo: ProxyTo = () => undefined): void {
  config.clusters = config.clusters.map((cluster) => {
    const { server, proxyUrl } = cluster;
    const proxy = proxyUrl || !URL.canParse(server) ? proxyUrl : proxyTo(new URL(server));
    return proxy === undefined ? cluster : { ...cluster, proxyUrl: proxy };
  });
}

function contextsOf(
  config: KubeConfig,
  read: Pick<KubeContexts, 'problems' | 'where' | 'fileOf'>,
  options: KubeConfigOptions,
): KubeContexts {
  const { problems, fileOf } = read;
  const others = detailsOf(problems);
  return {
    ...read,
    current: config.getCurrentContext() ?? '',
    names: config.getContexts().map((context) => context.name),
    access(context) {
      if (config.getContexts().some(({ name }) => name === context))
        return accessContext(config, context, { ...options, where: fileOf(context), others });
      const known = contextNames(config.getContexts().map(({ name }) => name));
      throw configRefusal(`${fileOf(context)} has no context '${context}': it has ${known}.${others}`);
    },
  };
}
