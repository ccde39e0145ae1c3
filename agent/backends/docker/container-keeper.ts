import { Failure } from '../../../shared/errors.ts';
import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { LABEL } from '../labels.ts';
import { CONTAINER_LABEL } from './container-spec.ts';
import { isOver } from './container-state.ts';
import { type Container, hasStream, labelOf, listContainers, nameOf, removeContainer } from './containers.ts';
import type { EngineClient } from './engine-client.ts';
import { isMarkAlive, type ProcessMark } from './process-mark.ts';
import { type Sign, SignsOfLife } from './signs-of-life.ts';

export const KEEP_MS = 5_000;
/** A container that ended stays so long for endOf() to be asked; one that is being made has time to become known. */
export const UNWANTED_MS = 30_000;
const REMOVED_AT_ONCE = 8;

export type ContainerKeeperDeps = {
  client: EngineClient;
  installation: string;
  instance: string;
  mark: ProcessMark | undefined;
  /** An own container that somebody has, or is making. */
  isWanted: (name: string) => boolean;
  remove: (name: string) => Promise<void>;
  /** Each look: undefined, or why the engine could not be looked at. */
  onLook: (trouble: Failure | undefined) => void;
  clock: Clock;
  log: Log;
  keepMs?: number | undefined;
  unwantedMs?: number | undefined;
  silentMs?: number | undefined;
};

/** Looks at the installation's containers again and again: own ones that nobody wants go, and so does what dead instances left. */
export type ContainerKeeper = {
  /** Resolves when the first look is over and what it found dead is removed. */
  readonly first: Promise<void>;
  close(): void;
};

export function createContainerKeeper(deps: ContainerKeeperDeps): ContainerKeeper {
  const { client, installation, instance, mark, clock, log } = deps;
  const { keepMs = KEEP_MS, unwantedMs = UNWANTED_MS } = deps;
  const life = new SignsOfLife(deps.silentMs);
  const stop = new AbortController();
  const { signal } = stop;
  let unwanted = new Map<string, number>();
  let cancel: (() => void) | undefined;

  async function turn(): Promise<void> {
    try {
      const containers = await listContainers(client, { installation, signal });
      deps.onLook(undefined);
      sweep(containers.filter((each) => labelOf(each, LABEL.instance) === instance));
      await reap(containers.filter((each) => labelOf(each, LABEL.instance) !== instance));
    } catch (cause) {
      life.forget();
      if (signal.aborted) return;
      if (cause instanceof Failure) deps.onLook(cause);
      else log('containers_not_kept', { cause });
    }
    if (!signal.aborted) cancel = clock.after(keepMs, () => void turn());
  }

  /** An answer that was lost, a name that was left, a container that has ended. */
  function sweep(own: readonly Container[]): void {
    const seen = new Map<string, number>();
    for (const container of own) {
      const name = nameOf(container);
      if (deps.isWanted(name) && !isOver(container.State)) continue;
      const sinceMs = unwanted.get(name) ?? clock.now();
      seen.set(name, sinceMs);
      if (clock.now() - sinceMs >= unwantedMs) void deps.remove(name);
    }
    unwanted = seen;
  }

  async function reap(others: readonly Container[]): Promise<void> {
    const instances = Map.groupBy(others, (each) => labelOf(each, LABEL.instance));
    const signs = new Map<string, Sign>();
    for (const [name, containers] of instances) signs.set(name, await signOf(containers));
    const dead = life.observe(signs, clock.now());
    const left = dead.flatMap((name) => instances.get(name) ?? []);
    for (let at = 0; at < left.length; at += REMOVED_AT_ONCE)
      await Promise.all(left.slice(at, at + REMOVED_AT_ONCE).map(bury));
    if (left.length > 0) log('containers_reaped', { containers: left.length, instances: dead.length });
  }

  async function signOf(containers: readonly Container[]): Promise<Sign> {
    const made = labelOf(containers[0] as Container, CONTAINER_LABEL.process);
    const isAlive = isMarkAlive(made, mark);
    if (isAlive !== undefined) return isAlive ? 'alive' : 'dead';
    for (const container of containers)
      if (container.State === 'running' && (await hasStream(client, nameOf(container), signal)))
        return 'alive';
    return 'unknown';
  }

  async function bury(container: Container): Promise<void> {
    const name = nameOf(container);
    // By its id: another of its name is left alone.
    await removeContainer(client, container.Id).catch((cause: unknown) =>
      log('container_not_removed', { container: name, cause }),
    );
  }

  return {
    first: turn(),
    close() {
      stop.abort();
      cancel?.();
    },
  };
}
