import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { isAbsolute, resolve } from 'node:path';
import type { Cluster, KubeConfig, User } from './kube-config.ts';

/** A plugin that hangs, or waits for somebody to type, is ended. */
export const PLUGIN_TIMEOUT_MS = 30_000;

type Plugin = {
  apiVersion?: string;
  command?: string;
  env?: { name: string; value: string }[] | null;
  provideClusterInfo?: boolean;
};
type Spawn = (command: string, args: readonly string[] | undefined, options: SpawnOptions) => ChildProcess;

/** Whether a program is asked for the user's credential. */
export function hasPlugin({ exec }: User): boolean {
  return exec !== null && exec !== undefined;
}

/** What went wrong with a user's plugin, to go behind another sentence. What it said itself is in the cause, for the log. */
export function pluginTrouble({ exec }: User, { code }: { code?: unknown }): string {
  const refused = code === 'ENOENT' ? 'is not there' : `cannot be started (${code})`;
  return `: its plugin '${(exec as Plugin).command}' ${typeof code === 'string' ? refused : 'gave none'}`;
}

/** The library keeps what a plugin answers before it has looked at it: an answer without a credential would be the last. */
export function forgetAnswers(config: KubeConfig): void {
  const { authenticators } = config as unknown as { authenticators: { tokenCache?: object }[] };
  for (const each of authenticators) if (each.tokenCache) each.tokenCache = {};
}

/** Plugins that are named by a relative path are looked for beside their kubeconfig, as by kubectl. */
export function adoptPlugins(config: KubeConfig, directory: string): void {
  config.users = config.users.map((user) => {
    if (!hasPlugin(user)) return user;
    const plugin = user.exec as Plugin;
    const { command = '', env } = plugin;
    const isBeside = command.includes('/') && !isAbsolute(command);
    const path = isBeside ? resolve(directory, command) : command;
    return { ...user, exec: { ...plugin, command: path, env: [...(env ?? [])] } };
  });
}

/** The user whose plugin is told what it is asked for, as by kubectl: of which cluster, where it wants to know that. */
export function tellPlugin<U extends User>(user: U, cluster: Cluster, authority: Buffer | undefined): U {
  if (!hasPlugin(user)) return user;
  const { apiVersion = '', env, provideClusterInfo, ...rest } = user.exec as Plugin;
  const told = provideClusterInfo === true ? { cluster: clusterInfo(cluster, authority) } : {};
  const asked = { kind: 'ExecCredential', apiVersion, spec: { ...told, interactive: false } };
  return {
    ...user,
    // What the library keeps of a plugin's answers goes by this name: they may differ from cluster to cluster.
    name: provideClusterInfo === true ? JSON.stringify([user.name, cluster.name]) : user.name,
    exec: {
      ...rest,
      apiVersion,
      env: [{ name: 'KUBERNETES_EXEC_INFO', value: JSON.stringify(asked) }, ...(env ?? [])],
    },
  };
}

/** `spec.cluster` of client.authentication.k8s.io/v1. */
function clusterInfo(cluster: Cluster, authority: Buffer | undefined): Record<string, unknown> {
  const { server, tlsServerName, skipTLSVerify, proxyUrl } = cluster;
  return {
    server,
    ...(tlsServerName && { 'tls-server-name': tlsServerName }),
    ...(skipTLSVerify && { 'insecure-skip-tls-verify': true }),
    ...(authority && { 'certificate-authority-data': authority.toString('base64') }),
    ...(proxyUrl && { 'proxy-url': proxyUrl }),
  };
}

/** Sets how plugins are started. The library has no setting for it: it keeps the function in a member of its own. */
export function limitPlugins(config: KubeConfig, timeoutMs = PLUGIN_TIMEOUT_MS): void {
  const start: Spawn = (command, args, options) =>
    spawn(command, args ?? [], {
      ...options,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
  const { authenticators } = config as unknown as { authenticators: { execFn?: Spawn }[] };
  for (const each of authenticators) if (each.execFn) each.execFn = start;
}
