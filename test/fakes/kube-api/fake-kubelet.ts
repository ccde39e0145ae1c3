import type { KubeObject, ObjectStore } from './object-store.ts';
import { type NodeFaults, type PodProcess, startPodProcess } from './pod-process.ts';

/** Names of registries that do not exist end in it: RFC 2606. */
const NO_REGISTRY = '.invalid/';

/** Every pod has a loopback of its own: these are addresses there. */
export const NODE_IP = '127.0.0.2';
export const SERVICE_IP = '127.0.0.3';

export const NO_FAULTS: NodeFaults = { token: false, unfiltered: false, reachable: [] };

export type FakeKubelet = {
  /** The pod's container, where it runs. */
  process(pod: KubeObject): PodProcess | undefined;
  /** Begins to delete; the object goes when the container has. It heeds no SIGTERM, but a grace of a second is not waited for. */
  remove(pod: KubeObject, graceSeconds?: number): void;
  /** Ends the container as a node would: `OOMKilled`, `Evicted`, … */
  end(name: string, how: { podReason?: string; containerReason?: string }): void;
  /** Pods stay in Terminating from now on. */
  stuck: boolean;
  /** How long the kubelet takes to report what has happened. */
  reportMs: number;
  /** Of containers that are started from now on. */
  faults: NodeFaults;
  close(): Promise<void>;
};

/** Scheduler and kubelet of one node without labels. */
export function createFakeKubelet(pods: ObjectStore): FakeKubelet {
  const processes = new Map<string, PodProcess>();
  const timers = new Set<NodeJS.Timeout>();
  const endings = new Map<string, { podReason?: string; containerReason?: string }>();
  /** Containers whose command has run. */
  const ran = new Set<string>();
  const known = new Map<string, { namespace: string; name: string }>();
  const stop = pods.subscribe(pods.version, ({ type, object }) => {
    if (type !== 'ADDED') return;
    const { uid, namespace = '', name } = object.metadata;
    known.set(uid, { namespace, name });
    later(10, () => schedule(object));
  });

  const kubelet: FakeKubelet = {
    stuck: false,
    reportMs: 20,
    faults: NO_FAULTS,
    process: (pod) => processes.get(pod.metadata.uid),
    remove(pod, graceSeconds = pod.spec?.terminationGracePeriodSeconds ?? 0) {
      const going = current(pod);
      if (!going || going.metadata.deletionTimestamp !== undefined) return;
      const deletionTimestamp = new Date().toISOString();
      pods.put({ ...going, metadata: { ...going.metadata, deletionTimestamp } });
      const container = processes.get(pod.metadata.uid);
      if (graceSeconds > 1) later(graceSeconds * 1000, () => container?.kill());
      else container?.kill();
      const gone = container?.ended ?? Promise.resolve();
      void gone.then(() => later(kubelet.reportMs, () => forget(pod)));
    },
    end(name, how) {
      const found = [...processes.keys()].find((uid) => byUid(uid)?.metadata.name === name);
      if (found === undefined) throw new Error(`no container of ${name} runs`);
      endings.set(found, how);
      processes.get(found)?.kill();
    },
    async close() {
      stop();
      for (const timer of timers) clearTimeout(timer);
      for (const container of processes.values()) container.kill();
      await Promise.all([...processes.values()].map(({ ended }) => ended));
    },
  };

  function byUid(uid: string): KubeObject | undefined {
    const at = known.get(uid);
    const pod = at && pods.get(at.namespace, at.name);
    return pod?.metadata.uid === uid ? pod : undefined;
  }

  function current(pod: KubeObject): KubeObject | undefined {
    return byUid(pod.metadata.uid);
  }

  function later(ms: number, run: () => void): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      run();
    }, ms);
    timers.add(timer);
  }

  function forget(pod: KubeObject): void {
    if (kubelet.stuck || !current(pod)) return;
    processes.delete(pod.metadata.uid);
    pods.remove(pod.metadata.namespace ?? '', pod.metadata.name);
  }

  function report(pod: KubeObject, status: object, spec: object = {}): void {
    const now = current(pod);
    if (now) pods.put({ ...now, spec: { ...now.spec, ...spec }, status: { ...now.status, ...status } });
  }

  function schedule(pod: KubeObject): void {
    if (!current(pod)) return;
    if (Object.keys(pod.spec.nodeSelector ?? {}).length > 0) {
      const message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
      report(pod, {
        conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }],
      });
      return;
    }
    report(pod, { conditions: [{ type: 'PodScheduled', status: 'True' }] }, { nodeName: 'node' });
    later(kubelet.reportMs, () => void start(pod));
  }

  async function start(pod: KubeObject): Promise<void> {
    const [container] = pod.spec.containers;
    if (!current(pod) || current(pod)?.metadata.deletionTimestamp !== undefined) return;
    if (container.image.includes(NO_REGISTRY)) {
      waiting(pod, 'ErrImagePull', 'failed to pull and unpack image: no such host');
      later(50, () => waiting(pod, 'ImagePullBackOff', 'Back-off pulling image'));
      return;
    }
    const own = startPodProcess({
      command: container.command,
      env: environmentOf(container.env ?? []),
      faults: kubelet.faults,
      uid: pod.spec.securityContext?.runAsUser ?? 65_532,
      sizes: pod.spec.volumes.flatMap(({ emptyDir }: { emptyDir?: { sizeLimit: string } }) =>
        emptyDir ? [Number.parseInt(emptyDir.sizeLimit, 10)] : [],
      ),
    });
    processes.set(pod.metadata.uid, own);
    void own.ended.then(({ code, signal }) => later(kubelet.reportMs, () => ended(pod, code, signal)));
    try {
      await own.running;
      ran.add(pod.metadata.uid);
      later(kubelet.reportMs, () => running(pod));
    } catch {
      // Its end is reported by itself.
    }
  }

  function waiting(pod: KubeObject, reason: string, message: string): void {
    report(pod, statusOf(pod, 'Pending', { waiting: { reason, message } }));
  }

  function running(pod: KubeObject): void {
    if (current(pod)?.status?.phase === 'Failed') return;
    report(pod, statusOf(pod, 'Running', { running: { startedAt: new Date().toISOString() } }));
  }

  function ended(pod: KubeObject, code: number | null, signal: string | null): void {
    const { podReason, containerReason } = endings.get(pod.metadata.uid) ?? {};
    const started = ran.has(pod.metadata.uid);
    const reason = containerReason ?? (started ? (code === 0 ? 'Completed' : 'Error') : 'StartError');
    const message = processes.get(pod.metadata.uid)?.log().slice(-1024);
    const terminated = { reason, exitCode: code ?? (signal === 'SIGKILL' ? 137 : 143), message };
    const status = statusOf(pod, code === 0 ? 'Succeeded' : 'Failed', { terminated });
    report(pod, { ...status, ...(podReason === undefined ? {} : { reason: podReason }) });
  }

  function statusOf(pod: KubeObject, phase: string, state: object): object {
    return { phase, containerStatuses: [{ name: pod.spec.containers[0].name, state }] };
  }

  return kubelet;
}

type EnvironmentEntry = {
  name: string;
  value?: string;
  valueFrom?: { fieldRef?: { fieldPath: string } };
};

/** As a kubelet does: fields of the pod, and references to what every container is told of its cluster. */
function environmentOf(entries: readonly EnvironmentEntry[]): Record<string, string> {
  const told: Record<string, string> = { 'status.hostIP': NODE_IP, KUBERNETES_SERVICE_HOST: SERVICE_IP };
  return Object.fromEntries(
    entries.map(({ name, value = '', valueFrom }) => {
      const path = valueFrom?.fieldRef?.fieldPath;
      return [name, path ? (told[path] ?? '') : value.replace(/\$\((\w+)\)/g, (_, key) => told[key] ?? '')];
    }),
  );
}
