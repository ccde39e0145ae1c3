import { readFileSync, statSync } from 'node:fs';
import { delimiter, dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { Failure } from '../../../shared/errors.ts';
import { adoptPlugins } from './exec-plugin.ts';
import { adoptImpersonation } from './impersonation.ts';
import type { KubeConfig } from './kube-config.ts';

export const MAX_KUBECONFIG_BYTES = 16_777_216;

export type KubeConfigFiles = {
  readonly config: KubeConfig;
  /** Of the files that cannot be used. */
  readonly problems: readonly Failure[];
  /** Which file a context is from. */
  readonly sources: ReadonlyMap<string, string>;
};

/**
 * Reads files joined by `:`, of which one may hold the clusters and another the users. Throws a Failure
 * (`invalid_request`) where not one of them can be used, or no context is in any.
 */
export function readKubeConfigs(create: () => KubeConfig, paths: string): KubeConfigFiles {
  const files = paths.split(delimiter).filter((path) => path !== '');
  if (files.length === 0) throw configRefusal('KUBECONFIG is empty: use the path of a kubeconfig.');
  const config = create();
  const problems: Failure[] = [];
  const sources = new Map<string, string>();
  const read: string[] = [];
  for (const file of files) {
    const one = create();
    const path = resolve(file);
    try {
      readInto(one, path);
    } catch (cause) {
      if (!(cause instanceof Failure)) throw cause;
      problems.push(cause);
      continue;
    }
    read.push(path);
    for (const { name } of one.getContexts()) if (!sources.has(name)) sources.set(name, file);
    merge(config, one);
  }
  if (problems.length === files.length) throw problems[0];
  if (config.getContexts().length === 0) {
    const names = read.map((file) => `'${file}'`).join(', ');
    const none = read.length === 1 ? `The kubeconfig ${names} holds` : `The kubeconfigs ${names} hold`;
    throw configRefusal(`${none} no context.${detailsOf(problems)}`);
  }
  return { config, problems, sources };
}

/** Changes when one of the files does. Of one that cannot be looked at its reader says why. */
export function stampOf(paths: string): string {
  return paths.split(delimiter).map(stampOfFile).join(' ');
}

function stampOfFile(path: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(path);
    return [ino, size, mtimeMs].join();
  } catch (cause) {
    return String((cause as NodeJS.ErrnoException).code);
  }
}

/** Why a file is not to be read, if so: a FIFO would be waited for, a device read without end. */
export function fileTrouble(file: string, maxBytes: number): string | undefined {
  const stats = statSync(file);
  if (!stats.isFile()) return 'is no file';
  return stats.size > maxBytes ? `is larger than ${maxBytes} bytes` : undefined;
}

function readText(file: string): string {
  try {
    const trouble = fileTrouble(file, MAX_KUBECONFIG_BYTES);
    if (trouble !== undefined) throw configRefusal(`The kubeconfig '${file}' ${trouble}.`);
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw configRefusal(`The kubeconfig '${file}' cannot be read (${code}).`, cause);
  }
}

function readInto(config: KubeConfig, file: string): void {
  const text = readText(file);
  try {
    const content: unknown = parse(text);
    if (typeof content !== 'object' || Array.isArray(content)) throw new TypeError('There is no mapping.');
    config.loadFromString(text);
    config.makePathsAbsolute(dirname(file));
    preferData(config);
    adoptTokenFiles(config, content, dirname(file));
    adoptImpersonation(config, content);
    adoptPlugins(config, dirname(file));
  } catch (cause) {
    throw configRefusal(`The kubeconfig '${file}' is malformed.`, cause);
  }
}

/** As kubectl does: of two entries with one name the first counts. */
function merge(into: KubeConfig, from: KubeConfig): void {
  const firsts = <T extends { name: string }>(a: T[], b: T[]) => [
    ...a,
    ...b.filter((entry) => !a.some((known) => known.name === entry.name)),
  ];
  into.clusters = firsts(into.clusters, from.clusters);
  into.users = firsts(into.users, from.users);
  into.contexts = firsts(into.contexts, from.contexts);
  if (!into.currentContext) into.currentContext = from.currentContext;
}

/** What stands in a kubeconfig overrides the file that it names; the library has it the other way round. */
function preferData(config: KubeConfig): void {
  const unless = (data: string | undefined, file: string | undefined) => (data || !file ? undefined : file);
  for (const cluster of config.clusters)
    Object.assign(cluster, { caFile: unless(cluster.caData, cluster.caFile) });
  for (const user of config.users)
    Object.assign(user, {
      certFile: unless(user.certData, user.certFile),
      keyFile: unless(user.keyData, user.keyFile),
    });
}

/** The library knows `tokenFile` under another name, and reads it once. A `token` beside it is for when it cannot be read. */
function adoptTokenFiles(config: KubeConfig, raw: unknown, directory: string): void {
  const { users = [] } = raw as { users?: { name: string; user?: { tokenFile?: string } }[] };
  config.users = config.users.map((user) => {
    const given = users.find(({ name }) => name === user.name)?.user;
    if (!given?.tokenFile) return user;
    return {
      ...user,
      authProvider: { name: 'tokenFile', config: { tokenFile: resolve(directory, given.tokenFile) } },
    };
  });
}

/** To go behind another sentence: what could not be read may hold what was looked for. */
export function detailsOf(problems: readonly Failure[]): string {
  return problems.map(({ detail }) => ` ${detail}`).join('');
}

/** A configuration that somebody has to change. */
export function configRefusal(detail: string, cause?: unknown): Failure {
  return new Failure('invalid_request', detail, { cause });
}
