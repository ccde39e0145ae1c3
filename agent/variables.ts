import {
  booleanVariable,
  choiceVariable,
  integerVariable,
  listVariable,
  secretVariable,
  textVariable,
  urlVariable,
} from '../shared/config-schema.ts';
import { CANARY_EVERY_MS } from './canary/canary.ts';

const clusterVariable = () =>
  textVariable('use 1 to 63 of a-z, 0-9 and -').regex(/^[a-z0-9-]{1,63}$/, 'use 1 to 63 of a-z, 0-9 and -');

/** Every variable that an agent reads. */
export const VARIABLES = {
  EXECUTOR_BACKEND: choiceVariable(['kubernetes', 'docker', 'local']).default('kubernetes'),
  PODGATE_GATEWAY_URL: urlVariable(['http:', 'https:', 'ws:', 'wss:']).optional(),
  PODGATE_GATEWAY_CA_FILE: textVariable('use the path of a PEM file').optional(),
  PODGATE_AGENT_TOKEN: secretVariable('use the credential that "podgate agents token" printed').optional(),
  PODGATE_AGENT_TOKEN_FILE: textVariable('use the path of the file that holds the credential').optional(),
  PODGATE_TEMPLATES: textVariable('use the path of a YAML file').optional(),
  PODGATE_CLUSTER: clusterVariable().optional(),
  HOST: textVariable('use an address or a host name').default('127.0.0.1'),
  /** 0 picks a free port. */
  PODGATE_AGENT_PORT: integerVariable(0, 65_535).default(8081),
  POOL_SIZE: integerVariable(1, 10_000).optional(),
  MAX_EXEC_TIMEOUT_MS: integerVariable(1, 86_400_000).optional(),
  MAX_OUTPUT_BYTES: integerVariable(0, 4_294_967_296).default(1_000_000),
  CPU_TIME_LIMIT_SEC: integerVariable(1, 86_400).optional(),
  MEMORY_LIMIT_MB: integerVariable(16, 1_048_576).optional(),
  PODGATE_DRAIN_MS: integerVariable(0, 3_600_000).default(30_000),
  /** The local backend without the namespaces that it needs; an engine that does not hold every limit. */
  PODGATE_UNSAFE: booleanVariable().default(false),
  /** The local backend for a gateway on another machine. */
  PODGATE_ALLOW_REMOTE: booleanVariable().default(false),
  PODGATE_MEMORY_CGROUP: textVariable('use the folder of a memory control group')
    .startsWith('/', 'use the folder of a memory control group')
    .optional(),
  KUBECONFIG: textVariable().optional(),
  KUBE_CONTEXTS: listVariable().optional(),
  /** One context, as `podgate cluster` reads it. */
  PODGATE_K8S_CONTEXT: textVariable().optional(),
  KUBERNETES_NAMESPACE: textVariable().optional(),
  KUBERNETES_IMAGE: textVariable().optional(),
  KUBERNETES_SERVICE_ACCOUNT: textVariable().optional(),
  DOCKER_HOST: textVariable().optional(),
  DOCKER_CERT_PATH: textVariable('use the folder with ca.pem, cert.pem and key.pem').optional(),
  /** On, as everywhere, when it is set to anything. */
  DOCKER_TLS_VERIFY: textVariable().optional(),
  DOCKER_IMAGE: textVariable().optional(),
  /** Whether templates are tried from inside, and refuse work where their isolation does not hold. */
  PODGATE_CANARY: choiceVariable(['refuse', 'report', 'off']).optional(),
  PODGATE_CANARY_EVERY_SECONDS: integerVariable(10, 86_400).default(CANARY_EVERY_MS / 1_000),
  /** What a sandbox must not reach: `kind=address:port`, or `none`. */
  PODGATE_CANARY_TARGETS: listVariable().optional(),
  /** Agents of one installation clean up after each other where they share a namespace or an engine. */
  PODGATE_INSTALLATION: textVariable().default('podgate'),
};

/** Older names of some. */
export const ALIASES = {
  KUBERNETES_EXECUTOR_NAMESPACE: 'KUBERNETES_NAMESPACE',
  KUBERNETES_EXECUTOR_IMAGE: 'KUBERNETES_IMAGE',
  KUBERNETES_EXECUTOR_SERVICE_ACCOUNT: 'KUBERNETES_SERVICE_ACCOUNT',
  LIVECODEBENCH_K8S_CONTEXT: 'PODGATE_K8S_CONTEXT',
} as const;
