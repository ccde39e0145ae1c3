import { Podgate } from '../client/podgate.ts';
import { clientConfig } from './config.ts';
import { type Io, printable, UsageError, write } from './io.ts';

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
  const { clusters } = await new Podgate({ baseUrl: config.baseUrl, key: config.key }).clusters.list({
    signal: io.signal,
  });
  if (args.includes('--json')) {
    await write(io.stdout, `${JSON.stringify(clusters, null, 2)}\n`);
    return 0;
  }
  if (clusters.length === 0) await write(io.stdout, 'No cluster is connected that this key may use.\n');
  for (const cluster of clusters) {
    const detail = cluster.detail ? `: ${printable(cluster.detail)}` : '';
    await write(
      io.stdout,
      `${cluster.name}  ${cluster.backend}  ${cluster.state}${detail}  agents ${cluster.instances.length}\n`,
    );
    for (const template of cluster.templates) {
      const trouble = template.trouble
        ? `  ${template.trouble.code}: ${printable(template.trouble.detail)}`
        : '';
      await write(
        io.stdout,
        `  ${template.name}  ${template.languages.join(',')}  ${template.slots_free}/${template.slots_total} free  ${template.reuse}  network ${template.network}${trouble}\n`,
      );
    }
  }
  return 0;
}
