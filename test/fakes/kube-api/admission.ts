import { ApiError } from './api-request.ts';
import type { KubeObject } from './object-store.ts';

export type AdmissionState = {
  namespace: KubeObject | undefined;
  quotas: readonly KubeObject[];
  limitRanges: readonly KubeObject[];
  /** Pods that count against a quota now: also those in Terminating. */
  pods: readonly KubeObject[];
};

/** What stands between a pod and its namespace, in the words of the real server. Throws an ApiError. */
export function admitPod(pod: KubeObject, { namespace, quotas, limitRanges, pods }: AdmissionState): void {
  const { name } = pod.metadata;
  if (!namespace) {
    throw new ApiError(404, 'NotFound', `namespaces "${pod.metadata.namespace}" not found`);
  }
  const [container] = pod.spec.containers;
  if (!container?.image) {
    throw new ApiError(422, 'Invalid', `Pod "${name}" is invalid: spec.containers[0].image: Required value`);
  }
  for (const range of limitRanges) checkRange(name, container, range);
  if (namespace.metadata.labels?.['pod-security.kubernetes.io/enforce'] === 'restricted') checkStandard(pod);
  for (const quota of quotas) {
    const limit = quota.spec?.hard?.pods;
    const used = pods.filter(({ status }) => !['Failed', 'Succeeded'].includes(status?.phase)).length;
    if (limit === undefined || used < Number(limit)) continue;
    const sums = `requested: pods=1, used: pods=${used}, limited: pods=${limit}`;
    throw forbidden(name, `exceeded quota: ${quota.metadata.name}, ${sums}`);
  }
}

function checkRange(name: string, container: KubeObject['spec'], range: KubeObject): void {
  for (const { type, max } of range.spec?.limits ?? []) {
    const limit = container.resources?.limits?.memory;
    if (type !== 'Container' || max?.memory === undefined || mebibytes(limit) <= mebibytes(max.memory))
      continue;
    throw forbidden(name, `maximum memory usage per Container is ${max.memory}, but limit is ${limit}`);
  }
}

/** The restricted Pod Security Standard as far as a pod of one container can break it. */
function checkStandard({ metadata, spec }: KubeObject): void {
  const [container] = spec.containers;
  const own = container.securityContext ?? {};
  const profile = own.seccompProfile?.type ?? spec.securityContext?.seccompProfile?.type;
  const broken = [
    [spec.hostNetwork || spec.hostPID || spec.hostIPC, 'host namespaces'],
    [own.privileged, 'privileged'],
    [own.allowPrivilegeEscalation !== false, 'allowPrivilegeEscalation != false'],
    [!own.capabilities?.drop?.includes('ALL'), 'unrestricted capabilities'],
    [!(own.runAsNonRoot ?? spec.securityContext?.runAsNonRoot), 'runAsNonRoot != true'],
    [spec.securityContext?.runAsUser === 0, 'runAsUser=0'],
    [!['RuntimeDefault', 'Localhost'].includes(profile), 'seccompProfile'],
    [spec.volumes?.some((volume: object) => 'hostPath' in volume), 'restricted volume types'],
  ].flatMap(([isBroken, what]) => (isBroken ? [what] : []));
  if (broken.length > 0)
    throw forbidden(metadata.name, `violates PodSecurity "restricted:latest": ${broken.join(', ')}`);
}

function forbidden(name: string, why: string): ApiError {
  return new ApiError(403, 'Forbidden', `pods "${name}" is forbidden: ${why}`);
}

function mebibytes(text: string | undefined): number {
  const [, digits = '0', unit = ''] = /^(\d+)(Mi|Gi)?$/.exec(text ?? '') ?? [];
  return Number(digits) * (unit === 'Gi' ? 1024 : 1);
}
