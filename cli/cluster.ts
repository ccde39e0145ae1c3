import { parseArgs } from 'node:util';
import { stringify } from 'yaml';
import { clusterName } from '../shared/cluster-name.ts';
import { type ClusterConfig, clusterConfig } from './cluster-config.ts';
import { CLUSTER_PROVIDERS, type ClusterProvider } from './cluster-provider.ts';
import { type Io, UsageError, write } from './io.ts';
import { readManifestBase, requireNamespace } from './manifest-base.ts';
import { parseCommand } from './parse-command.ts';
import { runTool } from './run-tool.ts';
import { shellQuote } from './shell-quote.ts';

const HELP = `Usage: podgate cluster up [--provider kind|minikube] [--name NAME] [--load IMAGE]...
       podgate cluster down [--provider kind|minikube] [--name NAME] [--delete]

up makes a Kubernetes cluster on this machine, or takes the one of that name that is there, and puts the sandboxes'
namespace into it. It prints what an agent needs: eval "$(podgate cluster up)". down deletes the namespace with all that
is in it. The cluster stays unless it is told.

  --provider TOOL   kind or minikube, which make the cluster (default PODGATE_K8S_PROVIDER, or kind)
  --name NAME       the cluster's name (default podgate); its context is kind-NAME, or NAME with minikube
  --load IMAGE      puts an image of this machine's engine into the cluster; may be given more than once
  --delete          deletes the cluster too, as PODGATE_DELETE_CLUSTER_ON_CLEANUP does with any value

PODGATE_K8S_LOCAL=false is for a cluster that is there, that of PODGATE_K8S_CONTEXT or else the current one: only
the namespace comes and goes. KUBECONFIG names the kubeconfig (default ~/.kube/config), KUBERNETES_NAMESPACE the
namespace (default podgate-sandboxes). LIVECODEBENCH_K8S_LOCAL, _PROVIDER, _CONTEXT and DELETE_CLUSTER_ON_CLEANUP are
other spellings.
`;

const KUBECTL = 'see https://kubernetes.io/docs/tasks/tools/';
const NAMESPACE_LABEL = 'app.kubernetes.io/part-of=podgate';
const OWNER_PATH = "jsonpath={.metadata.name}={.metadata.labels['app\\.kubernetes\\.io/part-of']}";
const NODES_WAIT = '--timeout=180s';
const DELETE_WAIT = '--timeout=120s';
const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  provider: { type: 'string' },
  name: { type: 'string' },
  load: { type: 'string', multiple: true },
  delete: { type: 'boolean' },
} as const;

type Wanted = {
  name: string;
  /** Undefined for a cluster that is there already. */
  provider: ClusterProvider | undefined;
  namespace: string;
  context: string | undefined;
  io: Io;
};

/** `podgate cluster`. */
export async function runCluster(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseCommand('cluster', () =>
    parseArgs({ args, options: OPTIONS, allowPositionals: true }),
  );
  const [verb, ...rest] = positionals;
  if (values.help || verb === undefined) {
    await write(values.help ? io.stdout : io.stderr, HELP);
    return values.help ? 0 : 2;
  }
  if ((verb !== 'up' && verb !== 'down') || rest.length > 0)
    throw new UsageError(`there is no 'cluster ${positionals.join(' ')}': use up or down`);
  if (verb === 'up' && values.delete) throw new UsageError('--delete is for podgate cluster down');
  if (verb === 'down' && values.load) throw new UsageError('--load is for podgate cluster up');
  const config = clusterConfig();
  const wanted = wantedOf(values, config, io);
  if (verb === 'up') await up(wanted, values.load ?? []);
  else await down(wanted, values.delete ?? config.deletes);
  return 0;
}

function wantedOf(
  values: { provider?: string | undefined; name?: string | undefined },
  config: ClusterConfig,
  io: Io,
): Wanted {
  const { name = 'podgate', provider: tool = config.provider } = values;
  if (tool !== 'kind' && tool !== 'minikube')
    throw new UsageError(`there is no provider '${tool}': use kind or minikube`);
  requireNamespace(config.namespace);
  // Who names a tool means a cluster of this machine.
  const isLocal = config.local || values.provider !== undefined;
  const provider = isLocal ? CLUSTER_PROVIDERS[tool] : undefined;
  const context = provider?.context(name) ?? config.context;
  if (provider && !(clusterName.safeParse(name).success && clusterName.safeParse(context).success))
    throw new UsageError(`'${name}' cannot be a cluster's name: use 1 to 58 of a-z, 0-9 and -`);
  return { name, provider, namespace: config.namespace, context, io };
}

async function up(wanted: Wanted, images: readonly string[]): Promise<void> {
  const { name, provider, namespace, io } = wanted;
  // Before anything is made that nobody could talk to.
  await kubectl(['version', '--client'], io);
  if (provider) {
    const isThere = await hasCluster(provider, name, io);
    await drive(provider, isThere ? provider.resume(name) : provider.create(name), io);
    for (const image of images) await drive(provider, provider.load(name, image), io);
  } else if (images.length > 0) {
    throw new UsageError(
      '--load is for clusters of this machine: push the image to where the cluster pulls from',
    );
  }
  const context = await contextOf(wanted);
  const there = ['--context', context];
  // Nodes of a cluster that others run are not everybody's to see.
  if (provider) await kubectl([...there, 'wait', '--for=condition=Ready', 'nodes', '--all', NODES_WAIT], io);
  await refuseForeign(there, wanted);
  const objects = await readManifestBase('sandbox', namespace);
  const text = objects.map((object) => stringify(object)).join('---\n');
  await kubectl([...there, 'apply', '-f', '-'], io, text);
  const served = clusterName.safeParse(context).success ? context : `${name}=${context}`;
  await write(
    io.stdout,
    `export KUBE_CONTEXTS=${shellQuote(served)}\nexport KUBERNETES_NAMESPACE=${shellQuote(namespace)}\n`,
  );
}

async function down(wanted: Wanted, deletes: boolean): Promise<void> {
  const { name, provider, namespace, io } = wanted;
  if (provider && !(await hasCluster(provider, name, io))) {
    await write(io.stderr, `${provider.tool} has no cluster '${name}'\n`);
    return;
  }
  if (provider && deletes) {
    await drive(provider, provider.remove(name), io);
    return;
  }
  // By label too: a namespace of that name that somebody else made is not ours to delete.
  const which = ['-l', NAMESPACE_LABEL, '--field-selector', `metadata.name=${namespace}`];
  const context = await contextOf(wanted);
  await kubectl(['--context', context, 'delete', 'namespace', ...which, DELETE_WAIT], io);
  if (provider)
    await write(io.stderr, `The cluster stays: 'podgate cluster down --delete' deletes it with its nodes.\n`);
}

/** What `down` would delete one day must have been made for sandboxes, or be said to be theirs. */
async function refuseForeign(there: readonly string[], { namespace, io }: Wanted): Promise<void> {
  const args = [...there, 'get', 'namespace', namespace, '--ignore-not-found', '-o', OWNER_PATH];
  const printed = (await runTool({ tool: 'kubectl', args, install: KUBECTL }, io)).trim();
  if (printed === '' || printed === `${namespace}=podgate`) return;
  throw new UsageError(
    `the namespace '${namespace}' is there already and is not Podgate's: name another with KUBERNETES_NAMESPACE, or ` +
      `give it to sandboxes alone with 'kubectl label namespace ${namespace} ${NAMESPACE_LABEL}'`,
    1,
  );
}

async function contextOf({ context, io }: Wanted): Promise<string> {
  return (
    context ??
    (await runTool({ tool: 'kubectl', args: ['config', 'current-context'], install: KUBECTL }, io)).trim()
  );
}

async function hasCluster(provider: ClusterProvider, name: string, io: Io): Promise<boolean> {
  const { tool, list: args, failsOnNone: mayFail } = provider;
  const printed = await runTool({ tool, args, install: otherTool(provider), mayFail }, io);
  return provider.names(printed).includes(name);
}

/** What a tool prints is for people: standard output is for the shell that evaluates it. */
async function drive(provider: ClusterProvider, args: readonly string[], io: Io): Promise<void> {
  await write(io.stderr, await runTool({ tool: provider.tool, args, install: otherTool(provider) }, io));
}

async function kubectl(args: readonly string[], io: Io, stdin?: string): Promise<void> {
  const run = { tool: 'kubectl', args, install: KUBECTL, ...(stdin === undefined ? {} : { stdin }) };
  await write(io.stderr, await runTool(run, io));
}

function otherTool({ tool, install }: ClusterProvider): string {
  return `see ${install}, or use --provider ${tool === 'kind' ? 'minikube' : 'kind'}`;
}
