import { Podgate } from '../client/podgate.ts';
import type { Cluster, ClusterPage, TemplateState } from '../client/types.ts';
import { clientConfig } from './config.ts';
import { type Io, printable, printableJson, UsageError, write } from './io.ts';

const HELP = `Usage: podgate clusters [--json]

Lists the clusters that the key may use, their agents and their templates.
`;

/** `podgate clusters`. */
export async function runClusters(args: string[], io: Io): Promise<number> {
  if (args.includes('--help') || args.includes('-h')) {
    await write(io.stdout, HELP);
    return 0;
  }
  const unknown = args.find((argument) => argument !== '--json');
  if (unknown !== undefined) throw new UsageError(`'${unknown}' is no option of clusters`);
  const config = await clientConfig(io.signal);
  const clusters = await listAll(new Podgate({ baseUrl: config.baseUrl, key: config.key }), io.signal);
  if (args.includes('--json')) {
    await write(io.stdout, printableJson(clusters));
    return 0;
  }
  if (clusters.length === 0) await write(io.stdout, 'No cluster is connected that this key may use.\n');
  for (const cluster of clusters)
    for (const line of [lineOf(cluster), ...cluster.templates.map(lineOfTemplate)])
      await write(io.stdout, `${printable(line)}\n`);
  return 0;
}

async function listAll({ clusters }: Podgate, signal: AbortSignal): Promise<Cluster[]> {
  const found: Cluster[] = [];
  let cursor: string | undefined;
  do {
    const page: ClusterPage = await clusters.list({ cursor, signal });
    found.push(...page.clusters);
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
  return found;
}

function lineOf({ name, backend, state, detail, instances }: Cluster): string {
  return `${name}  ${backend}  ${state}${detail ? `: ${detail}` : ''}  agents ${instances.length}`;
}

function lineOfTemplate(template: TemplateState): string {
  const { name, languages, slots_free, slots_total, reuse, network, trouble } = template;
  const slots = `${slots_free}/${slots_total} free`;
  const why = trouble ? `  ${trouble.code}: ${trouble.detail}` : '';
  return `  ${name}  ${languages.join(',')}  ${slots}  ${reuse}  network ${network}${why}`;
}
