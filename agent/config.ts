import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { clusterName } from '../shared/cluster-name.ts';
import { type Environment, readEnvironment } from '../shared/config-schema.ts';
import { Failure } from '../shared/errors.ts';
import { Secret } from '../shared/secret.ts';
import type { EngineSettings } from './backends/docker/engine-address.ts';
import type { CanaryOptions } from './canary/canary.ts';
import { type CanaryTargets, DEFAULT_TARGETS, parseTargets } from './canary/targets.ts';
import { isLoopback } from './loopback.ts';
import { gatewayProxy, type ProxyTo, passedOverProxies, readProxies } from './proxy.ts';
import { ALIASES, VARIABLES } from './variables.ts';

const MAX_FILE_BYTES = 1_048_576;
/** Pods of the `default` template, where nothing names an image: public, and with a python3. */
const DEFAULT_POD_IMAGE = 'python:3.13-slim';
/** Names that a command which also runs something else must let through. */
export const AGENT_VARIABLE_NAMES: readonly string[] = [...Object.keys(VARIABLES), ...Object.keys(ALIASES)];

/** What the seeds' names say of the `default` template; undefined where the variable is not set. */
export type TemplateVariables = {
  readonly POOL_SIZE?: number | undefined;
  readonly MAX_EXEC_TIMEOUT_MS?: number | undefined;
  readonly CPU_TIME_LIMIT_SEC?: number | undefined;
  readonly MEMORY_LIMIT_MB?: number | undefined;
  readonly KUBERNETES_IMAGE?: string | undefined;
  readonly DOCKER_IMAGE?: string | undefined;
  readonly KUBERNETES_SERVICE_ACCOUNT?: string | undefined;
};

export type AgentConfig = {
  readonly backend: 'kubernetes' | 'docker' | 'local';
  readonly gatewayUrl: URL;
  /** PEM of the authority that signed the gateway's certificate, where the system does not know it. */
  readonly gatewayCa: string | undefined;
  /** Reads the credential bundle again: a file may hold a newer one. Throws a Failure that says what to do. */
  readonly credential: () => Secret;
  readonly templatesFile: string | undefined;
  readonly templateVariables: TemplateVariables;
  readonly cluster: string;
  readonly http: { readonly host: string; readonly port: number };
  readonly maxOutputBytes: number;
  readonly drainMs: number;
  /** URL of the proxy before the gateway. */
  readonly gatewayProxy: string | undefined;
  /** Names of set variables that other tools take a proxy from, and nothing here does. */
  readonly proxyVariables: readonly string[];
  /** Undefined: nobody looks. */
  readonly canary: CanaryOptions | undefined;
  readonly unsafe: boolean;
  /** Below it each sandbox of the local backend has a memory control group of its own. */
  readonly memoryCgroup: string | undefined;
  /** PATH, where the local backend looks for interpreters. */
  readonly path: string;
  readonly kubernetes: {
    readonly kubeconfig: string | undefined;
    readonly contexts: readonly string[] | undefined;
    readonly namespace: string | undefined;
    readonly installation: string;
    /** Name of the only cluster, where the variable is set. */
    readonly cluster: string | undefined;
    /** What `HTTPS_PROXY` and `NO_PROXY` say of an API server, where its kubeconfig says nothing. */
    readonly proxyTo: ProxyTo;
  };
  readonly docker: EngineSettings & { readonly installation: string };
};

export type AgentConfigOptions = {
  environment?: Environment;
  /** `PODGATE_*` names that another part of the same command reads. */
  alsoKnown?: readonly string[];
};

/** Reads and checks the agent's configuration once. Throws one Failure that names everything that is wrong. */
export function readAgentConfig(options: AgentConfigOptions = {}): AgentConfig {
  const { environment = process.env, alsoKnown = [] } = options;
  const values = readValues(environment, alsoKnown);
  const { PODGATE_GATEWAY_URL: gatewayUrl, PODGATE_GATEWAY_CA_FILE: caFile } = values;
  if (gatewayUrl === undefined)
    throw refusal('PODGATE_GATEWAY_URL', 'is not set: use the URL at which the gateway can be reached');
  const credential = credentialReader(values.PODGATE_AGENT_TOKEN, values.PODGATE_AGENT_TOKEN_FILE);
  credential();
  if (values.EXECUTOR_BACKEND === 'local' && !isLoopback(gatewayUrl.hostname) && !values.PODGATE_ALLOW_REMOTE)
    throw refusal(
      'PODGATE_GATEWAY_URL',
      `is on another machine (${gatewayUrl.hostname}), and the local backend is for development. Use EXECUTOR_BACKEND=kubernetes or docker, or set PODGATE_ALLOW_REMOTE=true if you mean it`,
    );
  const backend = values.EXECUTOR_BACKEND;
  const kubernetes = kubernetesOf(values, environment);
  const proxy = gatewayProxy(gatewayUrl, kubernetes.proxyTo);
  return Object.freeze({
    backend,
    gatewayUrl,
    gatewayCa: caFile === undefined ? undefined : readSmallFile('PODGATE_GATEWAY_CA_FILE', caFile),
    credential,
    templatesFile: values.PODGATE_TEMPLATES,
    templateVariables: templateVariablesOf(values, backend),
    cluster: values.PODGATE_CLUSTER ?? clusterFromHost(hostname()),
    http: Object.freeze({ host: values.HOST, port: values.PODGATE_AGENT_PORT }),
    maxOutputBytes: values.MAX_OUTPUT_BYTES,
    drainMs: values.PODGATE_DRAIN_MS,
    gatewayProxy: proxy,
    proxyVariables: passedOverProxies(environment, proxy !== undefined || backend === 'kubernetes'),
    canary: canaryOptions(values),
    unsafe: values.PODGATE_UNSAFE,
    memoryCgroup: values.PODGATE_MEMORY_CGROUP,
    path: environment.PATH ?? '/usr/local/bin:/usr/bin:/bin',
    kubernetes,
    docker: dockerOf(values, environment),
  });
}

/** What `podgate images` reads: it needs no gateway, and is for Docker whatever the agent would run. */
export function readImagesConfig(
  environment: Environment,
  alsoKnown: readonly string[] = [],
): Pick<AgentConfig, 'docker' | 'templatesFile' | 'templateVariables'> {
  const values = readValues(environment, alsoKnown);
  return {
    docker: dockerOf(values, environment),
    templatesFile: values.PODGATE_TEMPLATES,
    templateVariables: templateVariablesOf(values, 'docker'),
  };
}

/** What `podgate agent doctor` reads: it needs no gateway. */
export function readDoctorConfig(
  environment: Environment,
  alsoKnown: readonly string[] = [],
): Pick<AgentConfig, 'backend' | 'kubernetes' | 'templatesFile' | 'templateVariables'> & {
  targets: CanaryTargets;
} {
  const values = readValues(environment, alsoKnown);
  return {
    backend: values.EXECUTOR_BACKEND,
    kubernetes: kubernetesOf(values, environment),
    templatesFile: values.PODGATE_TEMPLATES,
    templateVariables: templateVariablesOf(values, values.EXECUTOR_BACKEND),
    targets: targetsOf(values),
  };
}

type Values = ReturnType<typeof readValues>;

function readValues(environment: Environment, alsoKnown: readonly string[]) {
  return readEnvironment(VARIABLES, environment, {
    secrets: ['PODGATE_AGENT_TOKEN'],
    aliases: ALIASES,
    alsoKnown,
  });
}

/** Each backend has an image of its own: what is set for another one must not be taken. */
function templateVariablesOf(values: Values, backend: AgentConfig['backend']): TemplateVariables {
  const { POOL_SIZE, MAX_EXEC_TIMEOUT_MS, CPU_TIME_LIMIT_SEC, MEMORY_LIMIT_MB } = values;
  const { KUBERNETES_IMAGE, KUBERNETES_SERVICE_ACCOUNT, DOCKER_IMAGE } = values;
  const isPod = backend === 'kubernetes' && values.PODGATE_TEMPLATES === undefined;
  const podImage = isPod ? DEFAULT_POD_IMAGE : undefined;
  return Object.freeze({
    POOL_SIZE,
    MAX_EXEC_TIMEOUT_MS,
    CPU_TIME_LIMIT_SEC,
    MEMORY_LIMIT_MB,
    ...(backend === 'docker' ? { DOCKER_IMAGE } : { KUBERNETES_IMAGE: KUBERNETES_IMAGE ?? podImage }),
    KUBERNETES_SERVICE_ACCOUNT,
  });
}

function kubernetesOf(values: Values, environment: Environment): AgentConfig['kubernetes'] {
  return Object.freeze({
    kubeconfig: values.KUBECONFIG,
    contexts:
      values.KUBE_CONTEXTS ??
      (values.PODGATE_K8S_CONTEXT === undefined ? undefined : [values.PODGATE_K8S_CONTEXT]),
    namespace: values.KUBERNETES_NAMESPACE,
    installation: values.PODGATE_INSTALLATION,
    cluster: values.PODGATE_CLUSTER,
    proxyTo: readProxies(environment),
  });
}

function dockerOf(values: Values, environment: Environment): AgentConfig['docker'] {
  return Object.freeze({
    host: values.DOCKER_HOST,
    tlsVerify: values.DOCKER_TLS_VERIFY !== undefined,
    certPath: values.DOCKER_CERT_PATH,
    sockets: engineSockets(environment),
    installation: values.PODGATE_INSTALLATION,
  });
}

/** Where engines listen: Docker as root, rootless, on a desktop; then Podman. */
function engineSockets({ XDG_RUNTIME_DIR: runtime, HOME: home }: Environment): readonly string[] {
  return [
    '/var/run/docker.sock',
    ...(runtime ? [`${runtime}/docker.sock`] : []),
    ...(home ? [`${home}/.docker/run/docker.sock`] : []),
    ...(runtime ? [`${runtime}/podman/podman.sock`] : []),
    '/run/podman/podman.sock',
  ];
}

function canaryOptions(values: Values): CanaryOptions | undefined {
  const targets = targetsOf(values);
  // Whoever gives isolation up knows that it does not hold.
  const policy = values.PODGATE_CANARY ?? (values.PODGATE_UNSAFE ? 'report' : 'refuse');
  if (policy === 'off') return undefined;
  return Object.freeze({ policy, everyMs: values.PODGATE_CANARY_EVERY_SECONDS * 1_000, targets });
}

function targetsOf({ PODGATE_CANARY_TARGETS: texts, EXECUTOR_BACKEND: backend }: Values): CanaryTargets {
  const targets = texts === undefined ? DEFAULT_TARGETS[backend] : parseTargets(texts);
  if (typeof targets === 'string') throw refusal('PODGATE_CANARY_TARGETS', targets);
  return targets;
}

function credentialReader(token: Secret | undefined, file: string | undefined): () => Secret {
  if (token !== undefined && file !== undefined)
    throw refusal('PODGATE_AGENT_TOKEN', 'and PODGATE_AGENT_TOKEN_FILE are both set: give one of them');
  if (token !== undefined) return () => token;
  if (file === undefined)
    throw refusal(
      'PODGATE_AGENT_TOKEN',
      'is not set: use the credential that "podgate agents token" printed',
    );
  return () => new Secret(readSmallFile('PODGATE_AGENT_TOKEN_FILE', file).trim());
}

function readSmallFile(name: string, path: string): string {
  try {
    const bytes = readFileSync(path);
    if (bytes.byteLength <= MAX_FILE_BYTES) return bytes.toString('utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw refusal(name, `names '${path}', which cannot be read (${code ?? 'unknown error'})`, cause);
  }
  throw refusal(name, `names '${path}', which is larger than ${MAX_FILE_BYTES} bytes`);
}

/** A machine's name as a cluster's: lower case, other characters as hyphens. */
function clusterFromHost(host: string): string {
  const name = host
    .toLowerCase()
    .replace(/[^a-z0-9-]/g, '-')
    .slice(0, 63);
  return clusterName.safeParse(name).success ? name : 'local';
}

function refusal(name: string, message: string, cause?: unknown): Failure {
  const detail = `${name} ${message}.`;
  return new Failure('invalid_request', detail, { cause, errors: [{ path: name, message: detail }] });
}
