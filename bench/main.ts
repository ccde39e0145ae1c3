import { judge, type Row } from './row.ts';

const FIGURES: Readonly<Record<string, () => Promise<Row[]>>> = {
  latency: async () => (await import('./figures/latency.ts')).latency(),
  share: async () => (await import('./figures/share.ts')).share(),
  ids: async () => (await import('./figures/ids.ts')).ids(),
  rate: async () => (await import('./figures/rate.ts')).rate(),
  memory: async () => (await import('./figures/memory.ts')).memory(),
  control: async () => (await import('./figures/control-latency.ts')).controlLatency(),
  docker: async () => (await import('./figures/docker.ts')).docker(),
  idle: async () => (await import('./figures/idle-links.ts')).idleLinks(),
  kubernetes: async () => (await import('./figures/kubernetes.ts')).kubernetes(),
  pods: async () => (await import('./figures/kubernetes.ts')).pods(),
};

const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => !Object.hasOwn(FIGURES, name));
if (unknown !== undefined) {
  process.stderr.write(`there is no figure '${unknown}': use ${Object.keys(FIGURES).join(', ')}\n`);
  process.exit(2);
}

process.stdout.write('| figure | measured | baseline, same run | | budget | |\n|---|---|---|---|---|---|\n');
let missed = 0;
for (const [name, measure] of Object.entries(FIGURES)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  for (const row of await measure()) {
    const { holds, budget } = judge(row);
    if (!holds) missed += 1;
    process.stdout.write(
      `| ${row.name} | ${row.figure} | ${row.baseline} | ${row.value.toFixed(1)} | ${budget} | ${holds ? 'held' : 'MISSED'} |\n`,
    );
  }
}
process.exitCode = missed === 0 ? 0 : 1;
