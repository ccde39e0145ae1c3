import type { KubeClient } from '../backends/kubernetes/kube-client.ts';
import { KubeRefusal } from '../backends/kubernetes/kube-failure.ts';
import { type Right, rightText } from '../backends/kubernetes/rights.ts';
import type { Check } from './check.ts';

const LEASES = 'coordination.k8s.io';
/** All that an agent asks of its cluster, as manifests/agent/role.yaml grants it: group, resource, verbs. */
export const AGENT_RIGHTS: readonly (readonly [group: string, resource: string, verbs: readonly string[]])[] =
  [
    ['', 'pods', ['create', 'get', 'list', 'watch', 'delete']],
    ['', 'pods/exec', ['create', 'get']],
    [LEASES, 'leases', ['create', 'get', 'list', 'update', 'delete']],
  ];
/** From this minor version on an exec over WebSocket asks for `create` too. */
const EXEC_CREATE_MINOR = 35;

type Review = { status?: { allowed?: boolean; reason?: string } };

/** Asks the API server about each verb, one by one. */
export async function* checkRights(
  client: KubeClient,
  { namespace, version }: { namespace: string; version: string },
): AsyncGenerator<Check> {
  const minor = Number(/^v1\.(\d+)/.exec(version)?.[1] ?? EXEC_CREATE_MINOR);
  const checks: Check[] = [];
  for (const [group, resource, verbs] of AGENT_RIGHTS) {
    const allowed: string[] = [];
    for (const verb of verbs) {
      const right: Right = { verb, group, resource, namespace };
      const answer = await review(client, right);
      if (answer === true) allowed.push(verb);
      else {
        const isLater = resource === 'pods/exec' && verb === 'create' && minor < EXEC_CREATE_MINOR;
        checks.push(missing(right, answer, isLater));
      }
    }
    if (allowed.length > 0)
      checks.push({
        name: 'rights',
        state: 'ok',
        detail: `${resource} in ${namespace}: ${allowed.join(', ')}`,
      });
  }
  if (checks.every(({ state }) => state === 'fail' || state === 'warn')) yield nothingAllowed(namespace);
  else yield* checks;
}

/** A namespace that the agent has nothing to do with, as a rule: one by one the verbs would hide it. */
function nothingAllowed(namespace: string): Check {
  const rules = AGENT_RIGHTS.flatMap(([group, resource, verbs]) => ruleText({ group, resource, verbs }));
  return {
    name: 'rights',
    state: 'fail',
    detail: `The agent may do nothing in namespace ${namespace}. If that is the right one, bind it to a Role there with:`,
    advice: rules,
  };
}

/** True, false, or why nobody says. */
async function review(client: KubeClient, right: Right): Promise<boolean | string> {
  const { verb, group, namespace } = right;
  const [resource, subresource] = right.resource.split('/');
  try {
    const { status } = await client.call<Review>({
      method: 'POST',
      path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
      body: {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: {
          resourceAttributes: { namespace, verb, group, resource, ...(subresource ? { subresource } : {}) },
        },
      },
    });
    return status?.allowed === true;
  } catch (cause) {
    if (cause instanceof KubeRefusal) return cause.detail;
    throw cause;
  }
}

function missing(right: Right, answer: false | string, isLater: boolean): Check {
  const what = `${rightText(right)} in ${right.namespace}`;
  if (answer !== false)
    return { name: 'rights', state: 'unknown', detail: `${what}: the API server does not say. ${answer}` };
  return {
    name: 'rights',
    state: isLater ? 'warn' : 'fail',
    detail: `The agent may not ${what}${isLater ? `, which Kubernetes 1.${EXEC_CREATE_MINOR} asks for` : ''}. Add to its Role:`,
    advice: ruleText({ ...right, verbs: [right.verb] }),
  };
}

/** The rule as a Role has it. */
export function ruleText({
  group,
  resource,
  verbs,
}: Pick<Right, 'group' | 'resource'> & { verbs: readonly string[] }): string[] {
  return [`- apiGroups: ["${group}"]`, `  resources: [${resource}]`, `  verbs: [${verbs.join(', ')}]`];
}
