import { X509Certificate } from 'node:crypto';
import { parseArgs } from 'node:util';
import { stringify } from 'yaml';
import { clusterName } from '../shared/cluster-name.ts';
import { parseCredential, requireNamed } from '../shared/credential.ts';
import type { Failure } from '../shared/errors.ts';
import { readToken } from '../shared/keys.ts';
import { MAX_KEY_BYTES } from './config.ts';
import { type Io, printable, UsageError, write } from './io.ts';
import { AGENT_NAMESPACE, DEFAULT_NAMESPACE, readManifestBase, requireNamespace } from './manifest-base.ts';
import { parseCommand } from './parse-command.ts';
import { readInputFile } from './read-input.ts';
import { VERSION } from './version.ts';

const HELP = `Usage: podgate agent manifest --gateway URL (--token CREDENTIAL | --token-file FILE) [OPTIONS]

Prints one file that puts an agent into a Kubernetes cluster: 'podgate agent manifest … | kubectl apply -f -'. It holds
the credential, so it is as secret as that. No inbound port, no rights beyond the sandboxes' namespace.

  --gateway URL          the gateway, as the cluster reaches it
  --token CREDENTIAL     what 'podgate agents token' printed
  --token-file FILE      a file that holds it; it does not show in the list of processes
  --cluster NAME         the name by which callers pick the cluster (default: the one that the token names)
  --gateway-ca FILE      the authority that signed the gateway's certificate, as PEM, where it is one of your own
  --image IMAGE          podgate's own image (default podgate:${VERSION}, which its nodes have to have)
  --sandbox-image IMAGE  the image of sandboxes (default python:3.13-slim)
  --namespace NAME       where sandboxes run (default podgate-sandboxes)
`;

const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  gateway: { type: 'string' },
  token: { type: 'string' },
  'token-file': { type: 'string' },
  cluster: { type: 'string' },
  'gateway-ca': { type: 'string' },
  image: { type: 'string' },
  'sandbox-image': { type: 'string' },
  namespace: { type: 'string' },
} as const;

/** A Secret holds no more than a MiB, and the credential beside it. */
const MAX_CA_BYTES = 524_288;

/** `podgate agent manifest`. */
export async function runAgentManifest(args: string[], io: Io): Promise<number> {
  const { values } = parseCommand('agent manifest', () => parseArgs({ args, options: OPTIONS }));
  if (values.help) {
    await write(io.stdout, HELP);
    return 0;
  }
  const { gateway, image, namespace = DEFAULT_NAMESPACE } = values;
  if (gateway === undefined || !URL.canParse(gateway) || !/^(http|ws)s?:/.test(gateway))
    throw new UsageError('say with --gateway at which URL the cluster reaches the gateway');
  requireNamespace(namespace);
  if (namespace === AGENT_NAMESPACE)
    throw new UsageError(
      `'${namespace}' is the agent's own namespace, which sandboxes' rules would cut off: name another with --namespace`,
    );
  const { cluster } = values;
  if (cluster !== undefined && !clusterName.safeParse(cluster).success)
    throw new UsageError(`'${printable(cluster)}' cannot be a cluster's name: use 1 to 63 of a-z, 0-9 and -`);
  const token = await readCredential(values.token, values['token-file'], io.signal);
  const ca = await readAuthority(values['gateway-ca'], io.signal);
  const variables: Record<string, string> = {
    PODGATE_GATEWAY_URL: gateway,
    PODGATE_CLUSTER: cluster === undefined ? onlyCluster(token) : namedCluster(token, cluster),
    KUBERNETES_NAMESPACE: namespace,
    ...(values['sandbox-image'] === undefined ? {} : { KUBERNETES_IMAGE: values['sandbox-image'] }),
  };
  const objects = await readManifestBase('agent', namespace);
  for (const object of objects) {
    for (const container of object.spec?.template?.spec?.containers ?? []) {
      if (image !== undefined) container.image = image;
      for (const entry of container.env) entry.value = variables[entry.name] ?? entry.value;
      // Beside the credential, whose Secret is mounted there.
      if (ca !== undefined)
        container.env.push({ name: 'PODGATE_GATEWAY_CA_FILE', value: '/var/run/podgate/ca.pem' });
    }
  }
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'podgate-agent', namespace: AGENT_NAMESPACE },
    type: 'Opaque',
    stringData: { token, ...(ca === undefined ? {} : { 'ca.pem': ca }) },
  };
  await write(io.stdout, [...objects, secret].map((object) => stringify(object)).join('---\n'));
  return 0;
}

async function readCredential(
  text: string | undefined,
  file: string | undefined,
  signal: AbortSignal,
): Promise<string> {
  if ((text === undefined) === (file === undefined))
    throw new UsageError("give what 'podgate agents token' printed with --token or --token-file");
  try {
    const options = { name: file as string, maxBytes: MAX_KEY_BYTES, signal };
    const token = (text ?? (await readInputFile(file as string, options)).toString()).trim();
    parseCredential(token);
    return token;
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause));
  }
}

async function readAuthority(file: string | undefined, signal: AbortSignal): Promise<string | undefined> {
  if (file === undefined) return undefined;
  const text = (await readInputFile(file, { name: file, maxBytes: MAX_CA_BYTES, signal })).toString();
  try {
    new X509Certificate(text);
    return text;
  } catch {
    throw new UsageError(`${printable(file)} is no certificate in PEM: give that of the gateway's authority`);
  }
}

function namedCluster(credential: string, cluster: string): string {
  try {
    requireNamed(parseCredential(credential).token, [cluster]);
    return cluster;
  } catch (cause) {
    throw new UsageError((cause as Failure).detail);
  }
}

/** The name in the token, where it is one. */
function onlyCluster(credential: string): string {
  const parts = readToken(parseCredential(credential).token);
  const { clusters } = 'claims' in parts ? (parts.claims as { clusters?: unknown }) : {};
  const [only, ...others] = Array.isArray(clusters) ? clusters : [];
  if (others.length > 0 || !clusterName.safeParse(only).success)
    throw new UsageError('say with --cluster which of its clusters the token is to serve');
  return only as string;
}
