/** What Podgate reads of Kubernetes' objects, as JSON has them. Everything may be missing: a server is not trusted to be tidy. */
export type ObjectMeta = {
  name?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
};

export type ContainerState = {
  waiting?: { reason?: string; message?: string };
  running?: { startedAt?: string };
  terminated?: { reason?: string; exitCode?: number; signal?: number; message?: string };
};

export type Pod = {
  metadata?: ObjectMeta;
  spec?: {
    nodeName?: string;
    restartPolicy?: string;
    shareProcessNamespace?: boolean;
    hostPID?: boolean;
    securityContext?: { runAsUser?: number };
    containers?: { name: string; securityContext?: { runAsUser?: number } }[];
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
