import { Failure } from '../../../shared/errors.ts';
import type { Clock } from '../../clock.ts';
import { createDeadline } from '../../deadline.ts';
import { pause } from '../../pause.ts';
import type { ExecStream } from './exec-stream.ts';
import { isPassing, KubeRefusal } from './kube-failure.ts';
import type { Pod } from './kube-objects.ts';
import { podState } from './pod-state.ts';
import type { PodWatch } from './pod-watch.ts';

/** A pod that no node takes is given up after this: an autoscaler may be at work, or nobody. */
export const UNSCHEDULABLE_MS = 20_000;
/**
 * A pod that has not started, without a reason: a large image on a slow line takes minutes. Less than a pool waits
 * (`createTimeoutMs`), which does not know how far it came.
 */
export const START_TIMEOUT_MS = 170_000;
/** Waits between tries to reach a container that is not known to run yet. */
const FIRST_TRY_MS = 50;
const LAST_TRY_MS = 1_000;
/** Tries begin when this share of the time is over that pods here took lately. */
const EARLY_SHARE = 0.8;
/** A container that runs, and whose runner is not to be reached all the same: two and a half seconds of tries. */
const RUNNING_TRIES = 8;
/** While a pod is on its way its watch is heard: one that hangs on a dead connection would show it after WATCH_IDLE_MS. */
export const DOUBT_MS = 5_000;
const MAX_DOUBT_MS = 60_000;
/** Pods that nobody can see are not waited for: whoever waits for a sandbox is told of the trouble instead. */
export const UNHEARD_MS = 30_000;
/** Nor are those that run, where the API server has too much to do for an exec, or hangs: a try at one may take 15 s. */
export const UNREACHED_MS = 30_000;

export type PodStartDeps = {
  watch: PodWatch;
  clock: Clock;
  open: (name: string, signal: AbortSignal) => Promise<ExecStream>;
  unschedulableMs: number;
  startTimeoutMs: number;
  doubtMs?: number;
};

/**
 * Waits until a pod's runner is reached. The kubelet reports a container up to a second after it runs: so it is tried
 * before, from the time on at which others were there.
 */
export type PodStart = {
  /** Resolves with the first stream to the runner; rejects with the Failure that keeps the pod from starting. */
  run(name: string, signal: AbortSignal): Promise<ExecStream>;
};

export function createPodStart(deps: PodStartDeps): PodStart {
  const { watch, clock, open, unschedulableMs, startTimeoutMs } = deps;
  /** From being scheduled to being reached, lately. */
  let usualMs = 0;

  async function run(name: string, outer: AbortSignal): Promise<ExecStream> {
    const over = new AbortController();
    using deadline = createDeadline(clock, startTimeoutMs, () => notStarted(watch.get(name)), outer);
    const signal = AbortSignal.any([deadline.signal, over.signal]);
    const stopDoubting = doubt(deps.doubtMs ?? DOUBT_MS, (trouble) => over.abort(trouble));
    try {
      await scheduled(name, signal);
      const fromMs = clock.now();
      const reached = reach(name, signal);
      // A stream that comes after the end of the wait is nobody's.
      reached.then((stream) => over.signal.aborted && stream.destroy()).catch(() => {});
      // Whatever ends the pod ends the tries too.
      const stream = await Promise.race([reached, troubleOf(name, signal)]);
      const tookMs = clock.now() - fromMs;
      usualMs = usualMs === 0 ? tookMs : usualMs * 0.8 + tookMs * 0.2;
      return stream;
    } finally {
      stopDoubting();
      over.abort(new Failure('backend_unavailable', 'The wait for the pod is over.'));
    }
  }

  /**
   * Has all read again where the watch is silent for as long; at longer and longer waits, as an image may take minutes.
   * `giveUp`: that, too, fails, look after look.
   */
  function doubt(waitMs: number, giveUp: (trouble: Failure) => void): () => void {
    let cancel = clock.after(waitMs, look);
    let wasInTrouble = false;
    function look(): void {
      const { trouble } = watch;
      if (trouble && wasInTrouble && watch.silentMs() >= UNHEARD_MS) giveUp(trouble);
      wasInTrouble = trouble !== undefined;
      if (watch.silentMs() >= waitMs) watch.refresh();
      waitMs = Math.min(waitMs * 2, MAX_DOUBT_MS);
      cancel = clock.after(waitMs, look);
    }
    return () => cancel();
  }

  /** Resolves when a node has taken the pod. */
  async function scheduled(name: string, signal: AbortSignal): Promise<void> {
    const room = new AbortController();
    let cancel: (() => void) | undefined;
    const see = AbortSignal.any([signal, room.signal]);
    try {
      const failure = await watch.until<Failure | 'scheduled'>(
        name,
        (pod, gone) => {
          if (pod === undefined && !gone) return undefined;
          const state = podState(pod);
          if (state.phase === 'ended') return state.end.failure;
          if (pod?.spec?.nodeName) return 'scheduled';
          if (state.phase === 'pending' && state.unschedulable)
            cancel ??= clock.after(unschedulableMs, () => room.abort(state.trouble));
          return undefined;
        },
        see,
      );
      if (failure !== 'scheduled') throw failure;
    } finally {
      cancel?.();
    }
  }

  /** Rejects with what keeps the pod from starting; never resolves. */
  async function troubleOf(name: string, signal: AbortSignal): Promise<never> {
    throw await watch.until<Failure>(
      name,
      (pod, gone) => {
        if (pod === undefined && !gone) return undefined;
        const state = podState(pod);
        if (state.phase === 'ended') return state.end.failure;
        return state.phase === 'pending' && !state.unschedulable ? (state.trouble ?? undefined) : undefined;
      },
      signal,
    );
  }

  async function reach(name: string, signal: AbortSignal): Promise<ExecStream> {
    await untilRunning(name, usualMs * EARLY_SHARE, signal);
    let waitMs = FIRST_TRY_MS;
    let runsSinceMs: number | undefined;
    for (let failures = 0; ; ) {
      const isRunning = podState(watch.get(name)).phase === 'running';
      if (isRunning) runsSinceMs ??= clock.now();
      let askedMs = 0;
      try {
        return await open(name, signal);
      } catch (cause) {
        if (signal.aborted) throw cause;
        if (cause instanceof KubeRefusal) {
          // A server that is busy says nothing of the pod: another pod would only be more work for it.
          if (!isPassing(cause)) throw cause;
          askedMs = cause.retryAfterMs ?? LAST_TRY_MS;
        } else if (isRunning) failures += 1;
        const ranMs = runsSinceMs === undefined ? 0 : clock.now() - runsSinceMs;
        if (failures >= RUNNING_TRIES || (isPassing(cause) && ranMs >= UNREACHED_MS)) throw cause;
      }
      if (isRunning || askedMs > 0) await pause(clock, Math.max(waitMs, askedMs), signal);
      else await untilRunning(name, waitMs, signal);
      waitMs = Math.min(waitMs * 1.5, LAST_TRY_MS);
    }
  }

  /** Resolves when the container is said to run, at the latest after `waitMs`. */
  async function untilRunning(name: string, waitMs: number, signal: AbortSignal): Promise<void> {
    using waited = createDeadline(clock, waitMs, () => new Error('waited'), signal);
    try {
      await watch.until(name, (pod) => podState(pod).phase === 'running' || undefined, waited.signal);
    } catch (cause) {
      if (signal.aborted) throw cause;
    }
  }

  return { run };
}

/** What can be told of a pod that says nothing itself. The rest is in its events, which the agent may not read. */
function notStarted(pod: Pod | undefined): Failure {
  const isRunning = podState(pod).phase === 'running';
  const node =
    'The node has not started the pod: its events say why (image, network plugin, runtime class, a container before it).';
  const scheduler = 'No scheduler of the cluster has taken the pod.';
  const started = isRunning ? 'The pod runs, and its runner is not reached.' : node;
  return new Failure('backend_unavailable', pod && !pod.spec?.nodeName ? scheduler : started);
}
