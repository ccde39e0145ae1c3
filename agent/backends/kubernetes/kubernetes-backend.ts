import type { Duplex } from 'node:stream';
import { Failure } from '../../../shared/errors.ts';
import type { Template } from '../../../shared/template.ts';
import type { Clock } from '../../clock.ts';
import { createDeadline, orAborted } from '../../deadline.ts';
import { createListeners } from '../../listeners.ts';
import type { Log } from '../../log.ts';
import type { Backend, Board, Sandbox, SandboxOptions } from '../backend.ts';
import { requireUnchanged } from './changed-pod.ts';
import { createPod } from './create-pod.ts';
import { drawPod } from './draw-pod.ts';
import type { ExecStream } from './exec-stream.ts';
import { createForeignVariables } from './foreign-variables.ts';
import { holdLease } from './held-lease.ts';
import type { KubeClient } from './kube-client.ts';
import { BOARD_ANNOTATION, labelSelector } from './labels.ts';
import { createOtherContainersLog } from './other-containers.ts';
import { createPodExecs } from './pod-execs.ts';
import { createPodRemoval, deleteLast } from './pod-removal.ts';
import { createPodStart, START_TIMEOUT_MS, UNSCHEDULABLE_MS } from './pod-start.ts';
import { type PodEnd, podState } from './pod-state.ts';
import { createPodWatch } from './pod-watch.ts';
import { createReaper, listPods } from './reaper.ts';
import { sandboxOf } from './sandbox-of.ts';
import { createStayingPods } from './staying-pods.ts';
import { sweepUnwantedPods } from './unwanted-pods.ts';

/** The first list of pods: two that hang, or some that fail. */
export const SYNC_TIMEOUT_MS = 30_000;
/** The kubelet looks at its containers once a second: the reason of an end comes after the end. */
const END_KNOWN_MS = 3_000;

export type KubernetesBackendDeps = {
  client: KubeClient;
  namespace: string;
  /** Tells one Podgate's pods from another's in the same namespace. */
  installation: string;
  instance: string;
  clock: Clock;
  random: () => number;
  log: Log;
  /** Gives up what is not ready yet. */
  signal?: AbortSignal;
  syncTimeoutMs?: number;
  /** Exec protocols to offer; both unless given. */
  execProtocols?: readonly string[];
  unschedulableMs?: number;
  startTimeoutMs?: number;
  doubtMs?: number;
  leaseSeconds?: number;
  renewMs?: number;
  reapMs?: number;
  slackMs?: number;
  stayMs?: number;
};

export type KubernetesBackend = Backend & {
  readonly kind: 'kubernetes';
  /** Why the sandbox's pod ended; undefined where the cluster does not say so soon. `memory` is the outcome `memory_limit`. */
  endOf(sandbox: Sandbox, signal: AbortSignal): Promise<PodEnd | undefined>;
  /** Requests to the API server so far: calls, watches and execs. */
  readonly calls: number;
  /** True where this instance leads reaping and canary among those that share the namespace. */
  leads(): boolean;
  readonly board: Board;
};

type Known = {
  uid: string;
  /** Undefined for pods of another instance, which are only ever destroyed. */
  python: string | undefined;
  /** The stream that found the runner there, until somebody wants it. */
  first: ExecStream | undefined;
};

/** Sandboxes as pods. Rejects with a Failure when the namespace cannot be used. */
export async function createKubernetesBackend(deps: KubernetesBackendDeps): Promise<KubernetesBackend> {
  const { client, namespace, installation, instance, clock, log } = deps;
  const known = new Map<string, Known>();
  const lease = await holdLease({
    ...deps,
    ...(deps.leaseSeconds === undefined ? {} : { seconds: deps.leaseSeconds }),
    onReplaced: () => log('instance_taken_for_dead', { namespace }),
  });
  const reachable = createListeners();
  const watch = createPodWatch({
    ...deps,
    labelSelector: labelSelector(installation, instance),
    onRestored: reachable.tell,
  });
  const reaper = createReaper({ ...deps, lease });
  const execs = createPodExecs(deps);
  const start = createPodStart({
    watch,
    clock,
    unschedulableMs: deps.unschedulableMs ?? UNSCHEDULABLE_MS,
    startTimeoutMs: deps.startTimeoutMs ?? START_TIMEOUT_MS,
    ...(deps.doubtMs === undefined ? {} : { doubtMs: deps.doubtMs }),
    open: (name, signal) => execs.open(name, known.get(name)?.python ?? 'python3', signal),
  });
  const variables = createForeignVariables(log);
  const tellOfOthers = createOtherContainersLog(log);
  const closing = new AbortController();
  const removal = createPodRemoval({ ...deps, signal: closing.signal });
  const staying = createStayingPods({ ...deps, watch });
  const stopSweeping = sweepUnwantedPods({ watch, clock, isKnown: (name) => known.has(name), remove });

  async function create(
    template: Template,
    signal: AbortSignal,
    options: SandboxOptions = {},
  ): Promise<Sandbox> {
    if (template.image === undefined)
      throw new Failure('image_error', `Template '${template.name}' names no image.`);
    const both = AbortSignal.any([signal, closing.signal]);
    return variables.dropped(() => make(template, both, options));
  }

  async function make(template: Template, signal: AbortSignal, options: SandboxOptions): Promise<Sandbox> {
    const { names } = variables;
    const { name, python, body } = drawPod({ ...deps, lease }, template, { ...options, foreignEnv: names });
    signal.throwIfAborted();
    // A pod that cannot be deleted would be one more than `pool.max` before long.
    const { rights } = client;
    if (rights?.lacks('delete', 'pods')) await removal.retryRefused();
    if (rights?.lacks('delete', 'pods'))
      throw new Failure('backend_unavailable', rights.sentence ?? 'No pod may be deleted.');
    staying.requireFew();
    try {
      const pod = await createPod(deps, body, signal);
      const entry: Known = { uid: pod.metadata?.uid ?? '', python, first: undefined };
      known.set(name, entry);
      requireUnchanged(body, pod);
      variables.require(body, pod, names);
      tellOfOthers(pod);
      entry.first = await start.run(name, signal);
      // Until it is wanted nobody listens; connect() looks whether it still lives.
      entry.first.on('error', () => {});
      return sandboxOf(pod);
    } catch (cause) {
      void remove(name);
      throw cause;
    }
  }

  async function connect(sandbox: Sandbox, signal: AbortSignal): Promise<Duplex> {
    const entry = known.get(sandbox.id);
    const { python, first } = entry ?? {};
    if (entry === undefined || python === undefined)
      throw new Failure('sandbox_lost', "The sandbox is another instance's, or gone.");
    if (first) entry.first = undefined;
    if (first && !first.destroyed) return first;
    const state = podState(watch.get(sandbox.id));
    if (state.phase === 'ended') throw state.end.failure;
    return execs.open(sandbox.id, python, signal);
  }

  function remove(name: string, seenUid?: string): Promise<void> {
    const { uid = seenUid, first } = known.get(name) ?? {};
    known.delete(name);
    first?.destroy();
    return removal.remove({ name, uid });
  }

  async function list(): Promise<Sandbox[]> {
    const pods = await listPods(client, { namespace, selector: labelSelector(installation) });
    return pods
      .filter((pod) => podState(pod).phase !== 'ended')
      .map((pod) => {
        const { name = '', uid = '' } = pod.metadata ?? {};
        if (!known.has(name)) known.set(name, { uid, python: undefined, first: undefined });
        return sandboxOf(pod);
      });
  }

  async function endOf(sandbox: Sandbox, signal: AbortSignal): Promise<PodEnd | undefined> {
    const limit = new AbortController();
    const cancel = clock.after(END_KNOWN_MS, () => limit.abort());
    try {
      return await watch.until(
        sandbox.id,
        // Whoever asks has had the sandbox: a pod that is not there is gone.
        (pod) => {
          const state = podState(pod);
          return state.phase === 'ended' ? state.end : undefined;
        },
        AbortSignal.any([signal, limit.signal]),
      );
    } catch {
      return undefined;
    } finally {
      cancel();
    }
  }

  async function close(): Promise<void> {
    closing.abort(new Failure('draining', 'The agent ends.'));
    reaper.close();
    staying.close();
    stopSweeping();
    stopListening?.();
    await deleteLast({ ...deps, selector: labelSelector(installation, instance) });
    await lease.release();
    watch.close();
    client.access.close();
  }

  const late = () =>
    watch.trouble ?? new Failure('backend_unavailable', 'The pods of the namespace cannot be listed.');
  try {
    using deadline = createDeadline(clock, deps.syncTimeoutMs ?? SYNC_TIMEOUT_MS, late, deps.signal);
    await orAborted(watch.synced, deadline.signal);
  } catch (cause) {
    reaper.close();
    staying.close();
    stopSweeping();
    watch.close();
    await lease.release();
    throw cause;
  }
  // Rules come back together: whoever finds the first, often the Lease, finds it for the pods.
  const stopListening = client.rights?.onRegained(reachable.tell);
  return {
    kind: 'kubernetes',
    reconnects: true,
    freshPerExecution: false,
    create,
    connect,
    destroy: (sandbox) => remove(sandbox.id),
    list,
    endOf,
    onReachable: reachable.add,
    get calls() {
      return client.calls + execs.calls;
    },
    leads: reaper.leads,
    board: {
      leads: reaper.leads,
      read: () => reaper.leader()?.metadata?.annotations?.[BOARD_ANNOTATION],
      write: (text) => lease.annotate(BOARD_ANNOTATION, text),
    },
    close,
  };
}
