import { Failure } from '../../../shared/errors.ts';
import { type Asked, sandboxContainer } from './asked-pod.ts';
import { changedMounts } from './changed-mounts.ts';
import type { Container, Pod } from './kube-objects.ts';
import { parseQuantity } from './quantity.ts';

type Spec = NonNullable<Pod['spec']>;

/**
 * Throws where an admission webhook or a policy has changed what a sandbox stands on. Most of it no program in it finds
 * out: its pod is found by its labels, the kernel counts the processes of one user together, whatever pods they are in, a
 * runner that is started again knows nothing of what ran, and one that is not PID 1 cannot tell what is its sandbox's. The
 * rest is what user code would find: mounts, secrets, devices, privileges, another network.
 */
export function requireUnchanged(asked: Asked, made: Asked): void {
  const what = changeOf(asked, made) ?? changedMounts(asked, made) ?? givenSecret(asked, made);
  if (what !== undefined) throw changedByCluster(what);
}

/** Callers are told the sentence: it names no object of the cluster's. */
export function changedByCluster(what: string): Failure {
  const detail = `Something in the cluster ${what} the template's pods: an admission webhook or policy.`;
  return new Failure('policy_denied', detail);
}

function changeOf(asked: Asked, made: Asked): string | undefined {
  const labels = Object.entries(asked.metadata?.labels ?? {});
  if (labels.some(([name, value]) => made.metadata?.labels?.[name] !== value)) return 'changes the labels of';
  const [wanted, got] = [sandboxContainer(asked), sandboxContainer(made)];
  const change =
    changeOfPod(asked.spec ?? {}, made.spec ?? {}, { wanted, got }) ??
    changeOfContainer(wanted ?? { name: '' }, got ?? { name: '' });
  return change && `changes the ${change} of`;
}

function changeOfPod(
  asked: Spec,
  made: Spec,
  { wanted, got }: { wanted: Container | undefined; got: Container | undefined },
): string | undefined {
  // None is asked for where the platform gives each its own.
  for (const [name, change] of [
    ['runAsUser', 'user'],
    ['runAsGroup', 'group'],
  ] as const) {
    const id = wanted?.securityContext?.[name] ?? asked.securityContext?.[name];
    const given = got?.securityContext?.[name] ?? made.securityContext?.[name];
    if (id !== undefined && given !== id) return change;
  }
  if (made.restartPolicy !== asked.restartPolicy || !isNever(got?.restartPolicy)) return 'restart policy';
  if (made.shareProcessNamespace || made.hostPID) return 'process namespace';
  if (made.hostNetwork) return 'network namespace';
  if (made.hostIPC) return 'IPC namespace';
  // A server that knows no user namespaces leaves the wish out, and says nothing.
  if (asked.hostUsers === false && made.hostUsers !== false) return 'user namespace';
  if (made.enableServiceLinks && asked.enableServiceLinks === false) return 'service links';
  const { runtimeClassName } = asked;
  return runtimeClassName !== undefined && made.runtimeClassName !== runtimeClassName
    ? 'runtime class'
    : undefined;
}

function changeOfContainer(asked: Container, made: Container): string | undefined {
  if (!isSame(asked.command, made.command) || !isSame(asked.args, made.args)) return 'command';
  if (loosened(asked, made)) return 'security context';
  const limits = { ...asked.resources?.limits };
  const given = { ...made.resources?.limits };
  const names = new Set([...Object.keys(limits), ...Object.keys(given)]);
  const differs = (name: string) => parseQuantity(limits[name] ?? '0') !== parseQuantity(given[name] ?? '0');
  if ([...names].some(differs)) return 'resource limits';
  if (made.resources?.claims?.length || made.volumeDevices?.length) return 'devices';
  const { lifecycle, livenessProbe, readinessProbe, startupProbe } = made;
  // Each may start processes beside user code, or end the sandbox for what it does not answer.
  return lifecycle || livenessProbe || readinessProbe || startupProbe ? 'probes or hooks' : undefined;
}

function loosened({ securityContext: asked = {} }: Container, made: Container): boolean {
  const { securityContext: own = {} } = made;
  return (
    own.privileged === true ||
    own.allowPrivilegeEscalation !== asked.allowPrivilegeEscalation ||
    own.readOnlyRootFilesystem !== asked.readOnlyRootFilesystem ||
    (own.capabilities?.add ?? []).length > 0 ||
    (asked.capabilities?.drop ?? []).some((name) => !own.capabilities?.drop?.includes(name)) ||
    own.seccompProfile?.type === 'Unconfined' ||
    own.appArmorProfile?.type === 'Unconfined' ||
    own.procMount === 'Unmasked'
  );
}

/** What the agent cannot have taken away: it knows no names of what `envFrom` brings, and a secret is one beside user code too. */
function givenSecret(asked: Asked, made: Asked): string | undefined {
  const { env = [], envFrom = [] } = sandboxContainer(made) ?? {};
  if (envFrom.length > 0) return 'puts a whole secret or config map into the environment of';
  const own = new Set(sandboxContainer(asked)?.env?.map(({ name }) => name));
  const secret = env.find(({ name, valueFrom }) => valueFrom?.secretKeyRef && !own.has(name));
  return secret && `puts a secret into the environment (${secret.name}) of`;
}

function isNever(policy: string | undefined): boolean {
  return policy === undefined || policy === 'Never';
}

function isSame(asked: readonly string[] = [], made: readonly string[] = []): boolean {
  return asked.length === made.length && asked.every((word, at) => word === made[at]);
}
