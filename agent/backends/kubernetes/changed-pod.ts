import { Failure } from '../../../shared/errors.ts';
import type { Pod } from './kube-objects.ts';
import { CONTAINER } from './pod-spec.ts';

/** A pod as it was asked for, or as the server says that it made it. */
type Asked = Pick<Pod, 'spec'> & { metadata?: { labels?: Record<string, string> } };

/**
 * Throws where an admission webhook or a policy has changed what a sandbox stands on and no program in it finds out: its
 * pod is found by its labels, the kernel counts the processes of one user together, whatever pods they are in, a runner
 * that is started again knows nothing of what ran, and one that is not PID 1 cannot tell what is its sandbox's: it sees
 * other processes, counts no memory by the control group, and is clean after no reset.
 */
export function requireUnchanged(asked: Asked, made: Asked): void {
  const change = changeOf(asked, made);
  if (change === undefined) return;
  const detail = `Something in the cluster changes the ${change} of the template's pods: an admission webhook or policy.`;
  throw new Failure('policy_denied', detail);
}

function changeOf(asked: Asked, made: Asked): string | undefined {
  const labels = Object.entries(asked.metadata?.labels ?? {});
  if (labels.some(([name, value]) => made.metadata?.labels?.[name] !== value)) return 'labels';
  const uid = userOf(asked);
  // None is asked for where the platform gives each its own.
  if (uid !== undefined && userOf(made) !== uid) return 'user';
  if (made.spec?.restartPolicy !== asked.spec?.restartPolicy) return 'restart policy';
  return made.spec?.shareProcessNamespace || made.spec?.hostPID ? 'process namespace' : undefined;
}

/** The UID of the sandbox's container: its own word goes before the pod's. */
function userOf({ spec }: Asked): number | undefined {
  const container = spec?.containers?.find(({ name }) => name === CONTAINER);
  return container?.securityContext?.runAsUser ?? spec?.securityContext?.runAsUser;
}
