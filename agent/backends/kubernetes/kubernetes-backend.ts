import type { Duplex } from 'node:stream';
import { Failure } from '../../../shared/errors.ts';
import type { Template } from '../../../shared/template.ts';
import { createBackoff } from '../../backoff.ts';
import type { Clock } from '../../clock.ts';
import { createListeners } from '../../listeners.ts';
import type { Log } from '../../log.ts';
import { pause } from '../../pause.ts';
import { runnerCommand } from '../../runner/bundle.ts';
import { runnerConfig } from '../../runner/runner-config.ts';
import type { Backend, Board, Sandbox, SandboxOptions } from '../backend.ts';
import { LABEL } from '../labels.ts';
import { RUNNER_PLACE } from '../runner-place.ts';
import { openRunnerStream } from '../runner-stream.ts';
import { sandboxName } from '../sandbox-name.ts';
import { EXEC_VERBS, type ExecStream, openExec } from './exec-stream.ts';
import { holdLease } from './held-lease.ts';
import type { KubeClient } from './kube-client.ts';
import { isPassing, isRefused, KubeRefusal, lacksRight } from './kube-failure.ts';
import type { Pod } from './kube-objects.ts';
import { BOARD_ANNOTATION, INSTANCE_ANNOTATION, labelSelector } from './labels.ts';
import { CONTAINER, drawUid, podSpec } from './pod-spec.ts';
import { createPodStart, START_TIMEOUT_MS, UNSCHEDULABLE_MS } from './pod-start.ts';
import { type PodEnd, podState } from './pod-state.ts';
import { createPodWatch } from './pod-watch.ts';
import { createReaper, deletePod, deletePods, listPods } from './reaper.ts';
import { lackText } from './rights.ts';

const CREATE_TRIES = 4;
const DESTROY_TRIES = 12;
/** A pod that ended stays so long for endOf() to be asked; one that is being created has time to become known. */
const UNWANTED_MS = 30_000;
const SWEEP_MS = 10_000;
const CLOSE_TIMEOUT_MS = 10_000;
const CLOSE_TRIES = 3;
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
  /** Exec protocols to offer; both unless given. */
  execProtocols?: readonly string[];
  unschedulableMs?: number;
  startTimeoutMs?: number;
  doubtMs?: number;
  leaseSeconds?: number;
  renewMs?: number;
  reapMs?: number;
  slackMs?: number;
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
  const { client, namespace, installation, instance, clock, random, log } = deps;
  const podsPath = `/api/v1/namespaces/${namespace}/pods`;
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
  const start = createPodStart({
    watch,
    clock,
    unschedulableMs: deps.unschedulableMs ?? UNSCHEDULABLE_MS,
    startTimeoutMs: deps.startTimeoutMs ?? START_TIMEOUT_MS,
    ...(deps.doubtMs === undefined ? {} : { doubtMs: deps.doubtMs }),
    open: (name, signal) => open(name, known.get(name)?.python ?? 'python3', signal),
  });
  const closing = new AbortController();
  let unwanted = new Map<string, number>();
  let execs = 0;
  let cancelSweep = clock.after(SWEEP_MS, sweep);

  async function create(
    template: Template,
    signal: AbortSignal,
    options: SandboxOptions = {},
  ): Promise<Sandbox> {
    if (template.image === undefined)
      throw new Failure('image_error', `Template '${template.name}' names no image.`);
    const python = template.python ?? 'python3';
    const name = sandboxName(template.name, random);
    const identity = { name, namespace, installation, instance, lease: { name: lease.name, uid: lease.uid } };
    const command = runnerCommand({ python, config: runnerConfig(template, RUNNER_PLACE, options) });
    const { unfiltered = false } = options;
    const body = podSpec(template, { ...identity, uid: drawUid(template, random), unfiltered }, command);
    const both = AbortSignal.any([signal, closing.signal]);
    both.throwIfAborted();
    // A pod that cannot be deleted would be one more than `pool.max` before long.
    if (client.rights?.lacks('delete', 'pods'))
      throw new Failure(
        'backend_unavailable',
        lackText([{ verb: 'delete', group: '', resource: 'pods', namespace }]),
      );
    try {
      const pod = await post(body, name, both);
      const entry: Known = { uid: pod.metadata?.uid ?? '', python, first: undefined };
      known.set(name, entry);
      entry.first = await start.run(name, both);
      // Until it is wanted nobody listens; connect() looks whether it still lives.
      entry.first.on('error', () => {});
      return toSandbox(pod);
    } catch (cause) {
      void remove(name);
      throw cause;
    }
  }

  /** The name is drawn here, so that a lost answer can be asked for again without a second pod. */
  async function post(body: object, name: string, signal: AbortSignal): Promise<Pod> {
    const backoff = createBackoff({ baseMs: 200, maxMs: 2_000, random });
    for (;;) {
      try {
        // Not aborted once it is sent: whether there is a pod to delete must be known.
        return await client.call<Pod>({ method: 'POST', path: podsPath, body });
      } catch (cause) {
        if (isRefused(cause, 409) && cause.reason === 'AlreadyExists')
          return client.call<Pod>({ method: 'GET', path: `${podsPath}/${name}` });
        if (signal.aborted || !isPassing(cause) || backoff.tries + 1 >= CREATE_TRIES) throw cause;
        const asked = cause instanceof KubeRefusal ? (cause.retryAfterMs ?? 0) : 0;
        await pause(clock, Math.max(asked, backoff.next()), signal);
      }
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
    return open(sandbox.id, python, signal);
  }

  async function open(pod: string, python: string, signal: AbortSignal): Promise<ExecStream> {
    execs += 1;
    const { execProtocols: protocols } = deps;
    const place = {
      access: client.access,
      namespace,
      pod,
      container: CONTAINER,
      ...(protocols && { protocols }),
    };
    return openRunnerStream({
      python,
      signal,
      async open({ onEnd, ...exec }) {
        try {
          const stream = await openExec({ ...place, ...exec, onStatus: ({ words }) => onEnd(words) });
          for (const verb of EXEC_VERBS)
            client.rights?.allowed({ verb, group: '', resource: 'pods/exec', namespace });
          return stream;
        } catch (cause) {
          if (cause instanceof KubeRefusal && cause.right) client.rights?.refused(cause.right);
          throw cause;
        }
      },
    });
  }

  /** Tries for minutes, as nobody waits for it. What is left then ends itself: its stream is gone. */
  async function remove(name: string, seenUid?: string): Promise<void> {
    const { uid = seenUid, first } = known.get(name) ?? {};
    known.delete(name);
    first?.destroy();
    const backoff = createBackoff({ baseMs: 500, maxMs: 30_000, random });
    for (;;) {
      try {
        return await deletePod(client, namespace, { name, ...(uid === undefined ? {} : { uid }) });
      } catch (cause) {
        if (closing.signal.aborted || !isPassing(cause) || backoff.tries >= DESTROY_TRIES) {
          if (!lacksRight(cause)) log('pod_not_deleted', { namespace, pod: name, cause });
          return;
        }
        await pause(clock, backoff.next(), closing.signal).catch(() => {});
      }
    }
  }

  /** Pods of this instance that have ended, or that it knows nothing of: an answer that was lost, a name that was left. */
  function sweep(): void {
    cancelSweep = clock.after(SWEEP_MS, sweep);
    const seen = new Map<string, number>();
    for (const pod of watch.all()) {
      const { name = '', uid, deletionTimestamp } = pod.metadata ?? {};
      const isWanted = known.has(name) && podState(pod).phase !== 'ended';
      if (isWanted || deletionTimestamp !== undefined) continue;
      const sinceMs = unwanted.get(name) ?? clock.now();
      seen.set(name, sinceMs);
      if (clock.now() - sinceMs < UNWANTED_MS) continue;
      void remove(name, uid);
    }
    unwanted = seen;
  }

  async function list(): Promise<Sandbox[]> {
    const pods = await listPods(client, { namespace, selector: labelSelector(installation) });
    return pods
      .filter((pod) => podState(pod).phase !== 'ended')
      .map((pod) => {
        const { name = '', uid = '' } = pod.metadata ?? {};
        if (!known.has(name)) known.set(name, { uid, python: undefined, first: undefined });
        return toSandbox(pod);
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
    cancelSweep();
    const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
    const backoff = createBackoff({ baseMs: 500, maxMs: 2_000, random });
    for (;;) {
      try {
        await deletePods(client, { namespace, selector: labelSelector(installation, instance), signal });
        break;
      } catch (cause) {
        if (!isPassing(cause) || signal.aborted || backoff.tries >= CLOSE_TRIES) {
          log('pods_not_deleted', { namespace, cause });
          break;
        }
        await pause(clock, backoff.next(), signal).catch(() => {});
      }
    }
    await lease.release();
    watch.close();
    client.access.close();
  }

  try {
    await watch.synced;
  } catch (cause) {
    reaper.close();
    cancelSweep();
    watch.close();
    await lease.release();
    throw cause;
  }
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
      return client.calls + execs;
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

function toSandbox({ metadata = {} }: Pod): Sandbox {
  const { name = '', labels = {}, annotations = {}, creationTimestamp = '' } = metadata;
  return {
    id: name,
    template: labels[LABEL.template] ?? '',
    templateHash: labels[LABEL.templateHash] ?? '',
    instance: annotations[INSTANCE_ANNOTATION] ?? labels[LABEL.instance] ?? '',
    createdAtMs: Date.parse(creationTimestamp) || 0,
  };
}
