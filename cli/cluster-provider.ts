/** A tool that makes clusters on this machine, as the commands that it is given. */
export type ClusterProvider = {
  readonly tool: 'kind' | 'minikube';
  /** Where to get it. */
  readonly install: string;
  context(name: string): string;
  /** Prints what `names` reads. */
  readonly list: readonly string[];
  /** `list` ends with a failure where there is no cluster at all. */
  readonly failsOnNone: boolean;
  names(printed: string): string[];
  create(name: string): string[];
  /** For a cluster that is there: it runs and the kubeconfig has its context. */
  resume(name: string): string[];
  load(name: string, image: string): string[];
  remove(name: string): string[];
};

const READY_WAIT = '180s';

export const CLUSTER_PROVIDERS: Readonly<Record<'kind' | 'minikube', ClusterProvider>> = {
  kind: {
    tool: 'kind',
    install: 'https://kind.sigs.k8s.io/docs/user/quick-start/#installation',
    context: (name) => `kind-${name}`,
    list: ['get', 'clusters'],
    failsOnNone: false,
    names: (printed) => printed.split('\n').filter((line) => line !== ''),
    create: (name) => ['create', 'cluster', '--name', name, '--wait', READY_WAIT],
    resume: (name) => ['export', 'kubeconfig', '--name', name],
    load: (name, image) => ['load', 'docker-image', image, '--name', name],
    remove: (name) => ['delete', 'cluster', '--name', name],
  },
  minikube: {
    tool: 'minikube',
    install: 'https://minikube.sigs.k8s.io/docs/start/',
    context: (name) => name,
    list: ['profile', 'list', '--output', 'json'],
    failsOnNone: true,
    names: profileNames,
    create: startProfile,
    // It starts what has stopped, and leaves alone what runs.
    resume: startProfile,
    load: (name, image) => ['image', 'load', image, '--profile', name],
    remove: (name) => ['delete', '--profile', name],
  },
};

function startProfile(name: string): string[] {
  return ['start', '--profile', name, '--wait', 'all', '--interactive=false'];
}

/** Without a profile it prints an error in JSON, or nothing. */
function profileNames(printed: string): string[] {
  try {
    const { valid = [], invalid = [] } = JSON.parse(printed) as Record<
      string,
      { Name?: unknown }[] | undefined
    >;
    return [...valid, ...invalid].flatMap(({ Name }) => (typeof Name === 'string' ? [Name] : []));
  } catch {
    return [];
  }
}
