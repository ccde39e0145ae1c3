import type { Duplex } from 'node:stream';
import { Failure } from '../../../shared/errors.ts';
import type { Template } from '../../../shared/template.ts';
import type { Clock } from '../../clock.ts';
import { createDeadline, orAborted } from '../../deadline.ts';
import type { Log } from '../../log.ts';
import { runnerCommand } from '../../runner/bundle.ts';
import { runnerConfig } from '../../runner/runner-config.ts';
import type { Backend, Sandbox, SandboxEnd, SandboxOptions } from '../backend.ts';
import { RUNNER_PLACE } from '../runner-place.ts';
import { openRunnerStream } from '../runner-stream.ts';
import { sandboxName } from '../sandbox-name.ts';
import { createContainerKeeper } from './container-keeper.ts';
import { createContainerRemoval } from './container-removal.ts';
import { containerSpec, drawContainerUid, imageToRun } from './container-spec.ts';
import { explainStart, makeContainer, startContainer } from './container-start.ts';
import { containerEnd, isOver } from './container-state.ts';
import { inspectContainer, listContainers, toSandbox } from './containers.ts';
import type { EngineClient } from './engine-client.ts';

import { EngineRefusal, isRefused } from './engine-failure.ts';
import { createEngineWatch } from './engine-watch.ts';
import { openContainerExec } from './exec-stream.ts';
import { findImage } from './images.ts';
import type { ProcessMark } from './process-mark.ts';

const CLOSE_TIMEOUT_MS = 10_000;
/** A stream ends before the engine knows that its container has. */
const END_KNOWN_MS = 3_000;

export type DockerBackendDeps = {
  client: EngineClient;
  /** Tells one Podgate's containers from another's on the same engine. */
  installation: string;
  instance: string;
  /** This process, as `ownMark()` gives it. */
  mark: ProcessMark | undefined;
  /** Takes an engine that does not hold every limit. */
  isUnsafe: boolean;
  clock: Clock;
  random: () => number;
  log: Log;
  keepMs?: number;
  unwantedMs?: number;
  silentMs?: number;
  /** Gives up what is not ready yet. */
  signal?: AbortSignal;
};

export type DockerBackend = Backend & {
  readonly kind: 'docker';
  endOf(sandbox: Sandbox, signal: AbortSignal): Promise<SandboxEnd | undefined>;
  /** Requests to the engine so far. */
  readonly calls: number;
  /** Why the engine cannot be used now; null where it can. */
  readonly trouble: string | null;
};

type Known = {
  /** Its id, which no renaming changes; its name until it has one. */
  container: string;
  readonly python: string;
  /** The stream that found the runner there, until somebody wants it. */
  first: Duplex | undefined;
};

/** Sandboxes as containers. Rejects with a Failure when the engine cannot be used. What dead instances left is gone when it resolves. */
export async function createDockerBackend(deps: DockerBackendDeps): Promise<DockerBackend> {
  const { client, installation, instance, mark, clock, random, log } = deps;
  const known = new Map<string, Known>();
  const closing = new AbortController();
  /** Creations and removals under way: an end waits for them, as each may leave a container. */
  const underWay = new Set<Promise<unknown>>();
  const removal = createContainerRemoval({ ...deps, signal: closing.signal });
  const untilReady = deps.signal ? AbortSignal.any([closing.signal, deps.signal]) : closing.signal;
  const watch = await createEngineWatch({ ...deps, signal: untilReady });
  const keeper = createContainerKeeper({
    ...deps,
    isWanted: (name) => known.has(name),
    remove,
    onLook: (failure) => void watch.look(failure),
  });
  try {
    await orAborted(keeper.first, untilReady);
  } catch (cause) {
    keeper.close();
    throw cause;
  }

  function tracked<T>(work: Promise<T>): Promise<T> {
    underWay.add(work);
    const forget = () => void underWay.delete(work);
    work.then(forget, forget);
    return work;
  }

  async function create(
    template: Template,
    outer: AbortSignal,
    options: SandboxOptions = {},
  ): Promise<Sandbox> {
    const { facts, trouble } = watch;
    const imageName = imageToRun(template, facts);
    const signal = AbortSignal.any([outer, closing.signal]);
    signal.throwIfAborted();
    if (trouble && trouble.code !== 'backend_unavailable') throw trouble;
    const python = template.python ?? 'python3';
    const name = sandboxName(template.name, random);
    const createdAtMs = clock.wall();
    try {
      const image = await findImage(client, imageName, signal);
      const uid = drawContainerUid(template, facts, random);
      const identity = { name, installation, instance, mark, createdAtMs, uid, image };
      const command = runnerCommand({ python, config: runnerConfig(template, RUNNER_PLACE, options) });
      const entry: Known = { container: name, python, first: undefined };
      known.set(name, entry);
      const body = containerSpec(template, identity, { command, facts });
      entry.container = await makeContainer(client, { name, body, log }).catch((cause) => {
        // Refused there is none: what has this name is somebody else's.
        if (cause instanceof EngineRefusal) known.delete(name);
        throw cause;
      });
      await startContainer(client, entry.container);
      signal.throwIfAborted();
      const explain = (cause: unknown) => explainStart(client, entry.container, cause);
      entry.first = await open(entry, signal).catch(explain);
      // Until it is wanted nobody listens; connect() looks whether it still lives.
      entry.first.on('error', () => {});
    } catch (cause) {
      if (known.has(name)) void tracked(remove(name));
      if (cause instanceof EngineRefusal && cause.code !== 'image_error') watch.doubt();
      throw signal.aborted ? signal.reason : cause;
    }
    return { id: name, template: template.name, templateHash: template.hash, instance, createdAtMs };
  }

  async function connect(sandbox: Sandbox, signal: AbortSignal): Promise<Duplex> {
    const entry = known.get(sandbox.id);
    if (!entry) throw new Failure('sandbox_lost', "The sandbox is another instance's, or gone.");
    const { first } = entry;
    entry.first = undefined;
    if (first && !first.destroyed) return first;
    return open(entry, signal);
  }

  function open({ container, python }: Known, signal: AbortSignal): Promise<Duplex> {
    return openRunnerStream({
      python,
      signal,
      open: (exec) => openContainerExec({ ...exec, client, container }),
    });
  }

  function remove(name: string): Promise<void> {
    const entry = known.get(name);
    entry?.first?.destroy();
    known.delete(name);
    return removal(entry?.container ?? name);
  }

  async function list(): Promise<Sandbox[]> {
    const containers = await listContainers(client, { installation });
    return containers.filter(({ State }) => !isOver(State)).map(toSandbox);
  }

  async function endOf(sandbox: Sandbox, signal: AbortSignal): Promise<SandboxEnd | undefined> {
    const late = () => new Error('not known in time');
    const container = known.get(sandbox.id)?.container ?? sandbox.id;
    using limit = createDeadline(clock, END_KNOWN_MS, late, signal);
    try {
      await client.call({
        method: 'POST',
        path: `/containers/${container}/wait`,
        signal: limit.signal,
        timeoutMs: null,
      });
      const found = await inspectContainer(client, container, limit.signal);
      return containerEnd(found?.State);
    } catch (cause) {
      return isRefused(cause, 404) ? containerEnd(undefined) : undefined;
    }
  }

  async function close(): Promise<void> {
    if (closing.signal.aborted) return;
    closing.abort(new Failure('draining', 'The agent ends.'));
    keeper.close();
    const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
    try {
      // A creation that ends begins a removal.
      while (underWay.size > 0) await orAborted(Promise.allSettled([...underWay]), signal);
      const own = await listContainers(client, { installation, instance, signal });
      // One that somebody renamed is not listed.
      const ids = new Set([...own.map(({ Id }) => Id), ...[...known.values()].map((each) => each.container)]);
      await Promise.all([...ids].map(removal));
    } catch (cause) {
      log('containers_not_removed', { engine: client.shown, cause });
    }
    for (const { first } of known.values()) first?.destroy();
    known.clear();
  }

  return {
    kind: 'docker',
    reconnects: true,
    freshPerExecution: false,
    create: (...args) => tracked(create(...args)),
    connect,
    destroy: (sandbox) => tracked(remove(sandbox.id)),
    list,
    endOf,
    onReachable: watch.onReachable,
    get calls() {
      return client.calls;
    },
    get trouble() {
      return watch.trouble?.detail ?? null;
    },
    close,
  };
}
