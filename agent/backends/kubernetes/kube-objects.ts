/** What Podgate reads of Kubernetes' objects, as JSON has them. Everything may be missing: a server is not trusted to be tidy. */
export type ObjectMeta = {
  name?: string | undefined;
  namespace?: string;
  uid?: string | undefined;
  resourceVersion?: string;
  creationTimestamp?: string;
  deletionTimestamp?: string | undefined;
  finalizers?: string[] | undefined;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
};

export type ContainerState = {
  waiting?: { reason?: string; message?: string };
  running?: { startedAt?: string };
  terminated?: { reason?: string; exitCode?: number; signal?: number; message?: string };
};

/** Of a pod, or of a container, whose own word goes first. */
export type SecurityContext = {
  runAsUser?: number;
  runAsGroup?: number;
  privileged?: boolean;
  allowPrivilegeEscalation?: boolean;
  readOnlyRootFilesystem?: boolean;
  procMount?: string;
  capabilities?: { add?: string[]; drop?: string[] };
  seccompProfile?: { type: string };
  appArmorProfile?: { type: string };
};

export type Variable = {
  name: string;
  value?: string;
  valueFrom?: { secretKeyRef?: object };
};

export type Mount = { name: string; mountPath: string; subPath?: string; subPathExpr?: string };

/** Its other member is named after its kind. */
export type Volume = { name: string; emptyDir?: { medium?: string; sizeLimit?: string } };

export type Container = {
  name: string;
  command?: string[];
  args?: string[];
  env?: Variable[];
  envFrom?: object[];
  volumeMounts?: Mount[];
  volumeDevices?: object[];
  resources?: { limits?: Record<string, string>; claims?: object[] };
  securityContext?: SecurityContext;
  restartPolicy?: string;
  lifecycle?: object;
  livenessProbe?: object;
  readinessProbe?: object;
  startupProbe?: object;
};

export type Pod = {
  metadata?: ObjectMeta;
  spec?: {
    nodeName?: string | undefined;
    restartPolicy?: string;
    shareProcessNamespace?: boolean;
    hostPID?: boolean;
    hostIPC?: boolean;
    hostNetwork?: boolean;
    hostUsers?: boolean;
    enableServiceLinks?: boolean;
    runtimeClassName?: string;
    securityContext?: SecurityContext;
    containers?: Container[];
    initContainers?: Container[];
    volumes?: Volume[];
  };
  status?: {
    phase?: string;
    reason?: string;
    message?: string;
    conditions?: {
      type: string;
      status: string;
      reason?: string;
      message?: string;
    }[];
    containerStatuses?: { name: string; state?: ContainerState; lastState?: ContainerState }[];
    initContainerStatuses?: { name: string; state?: ContainerState; lastState?: ContainerState }[];
  };
};

export type Lease = {
  apiVersion?: string;
  kind?: string;
  metadata?: ObjectMeta;
  spec?: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    acquireTime?: string;
    renewTime?: string;
  };
};

/** The body of a refusal, and of an exec's last frame. */
export type Status = {
  kind?: string;
  status?: string;
  reason?: string;
  message?: string;
  code?: number;
  details?: { retryAfterSeconds?: number; causes?: { reason?: string; message?: string; field?: string }[] };
};

export type ObjectList<T> = {
  metadata?: { resourceVersion?: string; continue?: string };
  items?: T[] | null;
};

export type WatchEvent<T> = { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'; object: T };
