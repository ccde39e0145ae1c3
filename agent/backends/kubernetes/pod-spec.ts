import { MAX_SESSION_TTL_SECONDS } from '../../../shared/limits.ts';
import type { Template } from '../../../shared/template.ts';
import { LABEL, MANAGED_BY } from '../labels.ts';
import { WORKSPACE } from '../runner-place.ts';
import { sandboxMemoryMb } from '../sandbox-memory.ts';
import { drawSandboxUid, FIRST_SANDBOX_UID } from '../sandbox-uid.ts';
import type { V1Pod, V1PodSecurityContext, V1PodSpec, V1ResourceRequirements } from './kube-config.ts';
import { INSTANCE_ANNOTATION, labelValue } from './labels.ts';

/** A sandbox's own container. A cluster may put others beside it into the pod. */
export const CONTAINER = 'sandbox';
/**
 * The kubelet mounts a file of the node here, writable by all, whatever the root is. The directory is root's alone in
 * ordinary images, so that user code does not reach it; a reset empties it where it does. Nothing ever writes a message.
 */
export const TERMINATION_PATH = '/root/.podgate-termination';
/** A runner heeds no SIGTERM, and what runs under it was ended before. */
export const GRACE_SECONDS = 1;
const DEADLINE_SLACK_SECONDS = 60;
/** What canary/probe knows by the words `node` and `apiserver`. */
const WHEREABOUTS = [
  { name: 'CANARY_NODE', valueFrom: { fieldRef: { fieldPath: 'status.hostIP' } } },
  { name: 'CANARY_APISERVER', value: '$(KUBERNETES_SERVICE_HOST)' },
];

/** One pod's own part of its specification. */
export type PodIdentity = {
  name: string;
  namespace: string;
  installation: string;
  instance: string;
  /** The instance's Lease, in the same namespace: an owner elsewhere counts as absent, and its pods are collected. */
  lease: { name: string; uid: string };
  /** Null leaves the UID to the platform. */
  uid: number | null;
  /** A canary's: it is told where its node and its cluster's servers are, so that it can try them. */
  unfiltered?: boolean;
};

/** The UID of a new pod. `random` is 0 ≤ n < 1. */
export function drawUid(template: Template, random: () => number): number | null {
  if (template.uid !== undefined) return template.uid;
  if (template.kubernetes.assign_uid === 'platform') return null;
  // A user namespace maps 65,536 ids, and its UIDs are its own on the node already.
  if (template.kubernetes.host_users === false) return FIRST_SANDBOX_UID;
  return drawSandboxUid(random);
}

/** The pod of one sandbox: the restricted Pod Security Standard in full, and nothing of the host. */
export function podSpec(template: Template, identity: PodIdentity, command: readonly string[]): V1Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: identity.name,
      namespace: identity.namespace,
      labels: {
        [LABEL.managedBy]: MANAGED_BY,
        [LABEL.installation]: labelValue(identity.installation),
        [LABEL.instance]: labelValue(identity.instance),
        [LABEL.template]: template.name,
        [LABEL.templateHash]: template.hash,
      },
      annotations: { ...template.kubernetes.annotations, [INSTANCE_ANNOTATION]: identity.instance },
      // Without blockOwnerDeletion: where it is enforced, setting it needs rights over the Lease's finalizers.
      ownerReferences: [
        {
          apiVersion: 'coordination.k8s.io/v1',
          kind: 'Lease',
          name: identity.lease.name,
          uid: identity.lease.uid,
        },
      ],
    },
    spec: { ...sandboxSpec(template, identity, command), ...placement(template) },
  };
}

function sandboxSpec(
  template: Template,
  { uid, unfiltered = false }: PodIdentity,
  command: readonly string[],
): V1PodSpec {
  const { resources, kubernetes } = template;
  const volumes = [
    { name: 'workspace', mountPath: WORKSPACE, mb: resources.workspace_mb },
    { name: 'tmp', mountPath: '/tmp', mb: resources.tmp_mb },
    // The engine's own /dev/shm is 64 MB that nobody counts.
    { name: 'shm', mountPath: '/dev/shm', mb: kubernetes.shm_mb },
  ];
  return {
    containers: [
      {
        name: CONTAINER,
        image: template.image ?? '',
        ...(kubernetes.image_pull_policy === undefined
          ? {}
          : { imagePullPolicy: kubernetes.image_pull_policy }),
        command: [...command],
        ...(unfiltered ? { env: WHEREABOUTS } : {}),
        workingDir: WORKSPACE,
        resources: podResources(template),
        securityContext: {
          allowPrivilegeEscalation: false,
          privileged: false,
          readOnlyRootFilesystem: true,
          runAsNonRoot: true,
          capabilities: { drop: ['ALL'] },
          seccompProfile: { type: 'RuntimeDefault' },
        },
        terminationMessagePath: TERMINATION_PATH,
        terminationMessagePolicy: 'File',
        volumeMounts: volumes.map(({ name, mountPath }) => ({ name, mountPath })),
      },
    ],
    volumes: volumes.map(({ name, mb }) => ({ name, emptyDir: { medium: 'Memory', sizeLimit: `${mb}Mi` } })),
    securityContext: podSecurity(uid),
    hostname: 'sandbox',
    hostNetwork: false,
    hostPID: false,
    hostIPC: false,
    ...(kubernetes.host_users === undefined ? {} : { hostUsers: kubernetes.host_users }),
    shareProcessNamespace: false,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    ...nameResolution(template.network === 'cluster' || unfiltered),
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: GRACE_SECONDS,
    activeDeadlineSeconds: deadlineSeconds(template),
  };
}

/** Age at which the cluster itself ends the pod: never before an execution, or a session, that began at the maximum age has ended. */
export function deadlineSeconds(template: Template): number {
  const { kubernetes, resources } = template;
  const executionSeconds = Math.ceil(resources.timeout_ms / 1000);
  return kubernetes.max_age_seconds + MAX_SESSION_TTL_SECONDS + executionSeconds + DEADLINE_SLACK_SECONDS;
}

/** Memory that the container may use. */
export function memoryLimitMb({ resources, kubernetes }: Template): number {
  return sandboxMemoryMb(resources, kubernetes);
}

export function podResources(template: Template): V1ResourceRequirements {
  const { resources, kubernetes } = template;
  const limitMb = memoryLimitMb(template);
  const milliCpus = Math.ceil(resources.cpus * 1000);
  const requestMb = kubernetes.requests.memory_mb ?? resources.memory_mb + kubernetes.base_memory_mb;
  const requestMilli = Math.ceil((kubernetes.requests.cpus ?? resources.cpus / 10) * 1000);
  // The container's writable places are tmpfs: what is left on the node's disk is its log.
  const disk = '16Mi';
  return {
    requests: {
      cpu: `${Math.min(requestMilli, milliCpus)}m`,
      memory: `${Math.min(requestMb, limitMb)}Mi`,
      'ephemeral-storage': disk,
    },
    limits: { cpu: `${milliCpus}m`, memory: `${limitMb}Mi`, 'ephemeral-storage': disk },
  };
}

function podSecurity(uid: number | null): V1PodSecurityContext {
  return {
    runAsNonRoot: true,
    ...(uid === null ? {} : { runAsUser: uid, runAsGroup: uid }),
    seccompProfile: { type: 'RuntimeDefault' },
  };
}

/** A sandbox without network is not told where the cluster's DNS is, nor the names of its namespaces. */
function nameResolution(isTold: boolean): Pick<V1PodSpec, 'dnsPolicy' | 'dnsConfig'> {
  if (isTold) return { dnsPolicy: 'ClusterFirst' };
  return { dnsPolicy: 'None', dnsConfig: { nameservers: ['127.0.0.1'] } };
}

/** Where the pod goes and how the node runs it: the template's words, under Kubernetes' names. */
function placement({ kubernetes }: Template): Partial<V1PodSpec> {
  const { affinity, priority_class, runtime_class, scheduler, service_account } = kubernetes;
  const given = {
    imagePullSecrets: kubernetes.image_pull_secrets.map((name) => ({ name })),
    nodeSelector: kubernetes.node_selector,
    tolerations: kubernetes.tolerations.map(({ toleration_seconds, ...toleration }) => ({
      ...toleration,
      ...(toleration_seconds === undefined ? {} : { tolerationSeconds: toleration_seconds }),
    })),
    affinity,
    priorityClassName: priority_class,
    runtimeClassName: runtime_class,
    schedulerName: scheduler,
    serviceAccountName: service_account,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => !isEmpty(value)));
}

function isEmpty(value: unknown): boolean {
  return (
    value === undefined || (typeof value === 'object' && value !== null && Object.keys(value).length === 0)
  );
}
