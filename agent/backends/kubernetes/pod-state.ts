import { type ErrorCode, Failure } from '../../../shared/errors.ts';
import type { Pod } from './kube-objects.ts';
import { CONTAINER } from './pod-spec.ts';

/** Why a pod is no more. `memory` is the program's doing and an outcome, `memory_limit`; the rest are the cluster's. */
export type PodEnd = {
  why: 'memory' | 'evicted' | 'aged' | 'node_lost' | 'node_refused' | 'not_startable' | 'exited' | 'deleted';
  /** Code and sentence for the pool and its callers. */
  failure: Failure;
};

export type PodState =
  | { phase: 'pending'; trouble: Failure | null; unschedulable: boolean }
  | { phase: 'running' }
  | { phase: 'ended'; end: PodEnd };

/** A waiting container's reasons that only a change of image, registry or secret ends. */
const IMAGE_REASONS: ReadonlySet<string> = new Set([
  'ErrImagePull',
  'ImagePullBackOff',
  'InvalidImageName',
  'ErrImageNeverPull',
  'RegistryUnavailable',
  'ImageInspectError',
  'SignatureValidationFailed',
]);
const CONFIG_REASONS: ReadonlySet<string> = new Set([
  'CreateContainerConfigError',
  'CreateContainerError',
  'CreatePodSandboxError',
  'RunContainerError',
]);

/** Of a container that something in the cluster puts before the sandbox's, which waits for it. */
const BEFORE_REASONS: ReadonlySet<string> = new Set([
  ...IMAGE_REASONS,
  ...CONFIG_REASONS,
  'CrashLoopBackOff',
]);
const BEFORE = 'A container that something in the cluster puts before the sandbox fails.';

/** Why a pod has no node, and what callers are told of it. */
const UNSCHEDULED: ReadonlyMap<string, string> = new Map([
  ['Unschedulable', 'No node of the cluster has room for the sandbox, or none that would take it.'],
  [
    'SchedulingGated',
    'A scheduling gate, which something in the cluster sets, keeps the sandbox from its nodes.',
  ],
]);

const PREEMPTED = 'The sandbox had to make room for a pod of higher priority.';
/** Reasons of the condition DisruptionTarget, and what callers are told of them. */
const DISRUPTIONS: ReadonlyMap<string, string> = new Map([
  ['PreemptionByScheduler', PREEMPTED],
  ['DeletionByTaintManager', "The sandbox's node has a taint that it does not tolerate."],
  ['EvictionByEvictionAPI', 'The sandbox was evicted, as its node is emptied or the cluster moves pods.'],
  ['DeletionByPodGC', "The sandbox's node is gone."],
]);

/** What a pod's status says of its sandbox. Undefined: the pod is not there. */
export function podState(pod: Pod | undefined): PodState {
  if (pod === undefined) return ended('deleted', 'sandbox_lost', 'The pod was deleted.');
  const status = pod.status ?? {};
  const container = find(status.containerStatuses, ({ name }) => name === CONTAINER)?.state;
  if (container?.terminated) return terminated(pod, container.terminated);
  if (status.phase === 'Failed' || status.phase === 'Succeeded')
    return endedBefore(pod) ?? failed(status.reason ?? '');
  if (pod.metadata?.deletionTimestamp !== undefined)
    return disrupted(pod) ?? ended('deleted', 'sandbox_lost', 'The pod is being deleted.');
  if (status.phase === 'Unknown' || status.reason === 'NodeLost') return failed('NodeLost');
  if (container?.running) return { phase: 'running' };
  return pending(pod, container?.waiting);
}

function pending(pod: Pod, own: { reason?: string; message?: string } | undefined): PodState {
  const before = find(pod.status?.initContainerStatuses, ({ state }) =>
    BEFORE_REASONS.has(state?.waiting?.reason ?? ''),
  );
  if (before) {
    const { reason = '', message } = before.state?.waiting ?? {};
    const trouble = said('backend_unavailable', BEFORE, `${before.name}: ${reason}`, message);
    return { phase: 'pending', trouble, unschedulable: false };
  }
  return pendingItself(pod, own);
}

/** Nothing of the sandbox runs before those that are put before it have succeeded. */
function endedBefore({ status }: Pod): PodState | undefined {
  if (status?.reason) return undefined;
  const failed = find(status?.initContainerStatuses, ({ state }) => (state?.terminated?.exitCode ?? 0) !== 0);
  if (!failed) return undefined;
  const { reason = '', exitCode, message } = failed.state?.terminated ?? {};
  const failure = said('backend_unavailable', BEFORE, `${failed.name}: ${reason} ${exitCode}`, message);
  return { phase: 'ended', end: { why: 'not_startable', failure } };
}

function pendingItself(pod: Pod, waiting: { reason?: string; message?: string } | undefined): PodState {
  const reason = waiting?.reason ?? '';
  if (IMAGE_REASONS.has(reason)) {
    const detail = "The template's image cannot be pulled, or is not one.";
    return {
      phase: 'pending',
      trouble: said('image_error', detail, reason, waiting?.message),
      unschedulable: false,
    };
  }
  if (CONFIG_REASONS.has(reason)) {
    // A user that the image names and nobody maps to a number, a missing secret, a command that is not there.
    const detail = "The node cannot make the template's container.";
    return {
      phase: 'pending',
      trouble: said('backend_unavailable', detail, reason, waiting?.message),
      unschedulable: false,
    };
  }
  const scheduled = find(pod.status?.conditions, ({ type }) => type === 'PodScheduled');
  const kept = scheduled?.status === 'False' ? UNSCHEDULED.get(scheduled.reason ?? '') : undefined;
  if (kept !== undefined) {
    return {
      phase: 'pending',
      trouble: said('unschedulable', kept, scheduled?.reason ?? '', scheduled?.message),
      unschedulable: true,
    };
  }
  return { phase: 'pending', trouble: null, unschedulable: false };
}

function terminated(
  pod: Pod,
  { reason = '', exitCode, message }: { reason?: string; exitCode?: number; message?: string },
): PodState {
  // The pod's own reason is the nearer cause: an evicted container too has ended with 137.
  const own = pod.status?.reason ?? '';
  if (own !== '' && own !== 'OOMKilled') return failed(own);
  if (reason === 'OOMKilled')
    return ended('memory', 'sandbox_lost', 'The sandbox used more memory than it may.');
  if (reason === 'StartError' || reason === 'ContainerCannotRun') {
    const failure = said(
      'image_error',
      "The template's image has no interpreter that can be started.",
      reason,
      message,
    );
    return { phase: 'ended', end: { why: 'not_startable', failure } };
  }
  const exit = ended(
    'exited',
    'sandbox_lost',
    `The sandbox's runner ended with ${exitCode ?? 'an unknown code'}.`,
  );
  return disrupted(pod) ?? exit;
}

/** Who deletes a pod for the cluster's sake leaves a condition that says why, before its container ends of it. */
function disrupted({ metadata, status }: Pod): PodState | undefined {
  if (metadata?.deletionTimestamp === undefined) return undefined;
  const target = find(status?.conditions, ({ type }) => type === 'DisruptionTarget');
  const detail = target?.status === 'True' ? DISRUPTIONS.get(target.reason ?? '') : undefined;
  return detail === undefined ? undefined : ended('evicted', 'sandbox_lost', detail);
}

/** A pod that the kubelet or a controller ended. Reasons are kubelet's: pkg/kubelet, pkg/kubelet/eviction, nodeshutdown. */
function failed(reason: string): PodState {
  switch (reason) {
    case 'Evicted':
      return ended('evicted', 'sandbox_lost', 'The node was short of something and evicted the sandbox.');
    case 'DeadlineExceeded':
      return ended('aged', 'sandbox_lost', 'The sandbox reached its maximum age.');
    case 'NodeLost':
    case 'NodeShutdown':
    case 'Terminated':
    case 'Shutdown':
      return ended('node_lost', 'sandbox_lost', "The sandbox's node is gone.");
    case 'Preempting':
    case 'Preempted':
      return ended('evicted', 'sandbox_lost', PREEMPTED);
    default:
      break;
  }
  if (/^(OutOf|Unexpected|Node|UnexpectedAdmissionError|Topology)/.test(reason))
    return ended('node_refused', 'unschedulable', 'The node had no room for the sandbox after all.');
  return ended('exited', 'sandbox_lost', 'The sandbox ended.');
}

/** Who looks at a pod may be a timer: no server's untidiness may throw there. */
function find<T extends object>(list: readonly T[] | undefined, fits: (each: T) => boolean): T | undefined {
  if (!Array.isArray(list)) return undefined;
  return list.find((each) => typeof each === 'object' && each !== null && fits(each));
}

function ended(why: PodEnd['why'], code: ErrorCode, detail: string): PodState {
  return { phase: 'ended', end: { why, failure: new Failure(code, detail) } };
}

/** The cluster's own words go along as the cause: to the log, not to callers. */
function said(code: ErrorCode, detail: string, reason: string, words: string | undefined): Failure {
  return new Failure(code, detail, { cause: new Error(`${reason}: ${words ?? ''}`) });
}
