import { AGENT_VARIABLE_NAMES } from '../agent/config.ts';
import { GATEWAY_VARIABLE_NAMES } from '../gateway/node/config.ts';
import { booleanVariable, choiceVariable, readEnvironment, textVariable } from '../shared/config-schema.ts';
import { CLI_VARIABLE_NAMES, environment } from './config.ts';

const VARIABLES = {
  /** False: the cluster is there already, and only its namespace is ours. */
  PODGATE_K8S_LOCAL: booleanVariable().default(true),
  PODGATE_K8S_PROVIDER: choiceVariable(['kind', 'minikube']).default('kind'),
  /** For a cluster that is there already; without it the kubeconfig's current one. */
  PODGATE_K8S_CONTEXT: textVariable().optional(),
  /** Any value deletes a local cluster at its end. */
  PODGATE_DELETE_CLUSTER_ON_CLEANUP: textVariable().optional(),
  KUBERNETES_NAMESPACE: textVariable().default('podgate-sandboxes'),
};

const ALIASES = {
  LIVECODEBENCH_K8S_LOCAL: 'PODGATE_K8S_LOCAL',
  LIVECODEBENCH_K8S_PROVIDER: 'PODGATE_K8S_PROVIDER',
  LIVECODEBENCH_K8S_CONTEXT: 'PODGATE_K8S_CONTEXT',
  DELETE_CLUSTER_ON_CLEANUP: 'PODGATE_DELETE_CLUSTER_ON_CLEANUP',
  KUBERNETES_EXECUTOR_NAMESPACE: 'KUBERNETES_NAMESPACE',
} as const;

export type ClusterConfig = {
  readonly local: boolean;
  readonly provider: 'kind' | 'minikube';
  readonly context: string | undefined;
  readonly deletes: boolean;
  readonly namespace: string;
};

/** What `podgate cluster` reads. Throws one Failure that names everything that is wrong. */
export function clusterConfig(): ClusterConfig {
  const values = readEnvironment(VARIABLES, environment(), {
    aliases: ALIASES,
    alsoKnown: [...GATEWAY_VARIABLE_NAMES, ...AGENT_VARIABLE_NAMES, ...CLI_VARIABLE_NAMES],
  });
  return {
    local: values.PODGATE_K8S_LOCAL,
    provider: values.PODGATE_K8S_PROVIDER,
    context: values.PODGATE_K8S_CONTEXT,
    deletes: values.PODGATE_DELETE_CLUSTER_ON_CLEANUP !== undefined,
    namespace: values.KUBERNETES_NAMESPACE,
  };
}
