import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { isAbsolute, resolve } from 'node:path';
import type { KubeConfig, User } from './kube-config.ts';

/** A plugin that hangs, or waits for somebody to type, is ended. */
export const PLUGIN_TIMEOUT_MS = 30_000;

type Plugin = {
  apiVersion?: string;
  command?: string;
  env?: { name: string; value: string }[] | null;
};
type Spawn = (command: string, args: readonly string[] | undefined, options: SpawnOptions) => ChildProcess;

/** Whether a program is asked for the user's credential. */
export function hasPlugin({ exec }: User): boolean {
  return exec !== null && exec !== undefined;
}

/**
 * What kubectl does and the library does not: plugins have nobody who types, are told what they are asked for, end in
 * time, and are looked for beside their kubeconfig where they are named by a relative path.
 */
export function adoptPlugins(config: KubeConfig, directory: string): void {
  config.users = config.users.map((user) => {
    if (!hasPlugin(user)) return user;
    const { apiVersion = '', command = '', env, ...rest } = user.exec as Plugin;
    const asked = { kind: 'ExecCredential', apiVersion, spec: { interactive: false } };
    return {
      ...user,
      exec: {
        ...rest,
        apiVersion,
        command: command.includes('/') && !isAbsolute(command) ? resolve(directory, command) : command,
        env: [{ name: 'KUBERNETES_EXEC_INFO', value: JSON.stringify(asked) }, ...(env ?? [])],
      },
    };
  });
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
