import { spawnSync } from 'node:child_process';
import { type Front, startFront } from '../processes.ts';
import { ms, type Row } from '../row.ts';
import { PYTHON, spawnPython } from '../spawn-baseline.ts';
import { interleaved, p50, p99 } from '../stats.ts';
import { warmUp } from '../warm-up.ts';

const PANDAS = 'import pandas as pd; print(int(pd.DataFrame({"a": [1, 2, 3]}).a.sum()))';
const TEMPLATES = `
templates:
  - {name: fresh, python: ${PYTHON}, reuse: single_use, pool: {min: 4, max: 4}}
  - {name: reset, python: ${PYTHON}, reuse: reset, pool: {min: 1, max: 2}}
`;
const PANDAS_TEMPLATES = `
templates:
  - {name: fresh, python: ${PYTHON}, reuse: single_use, preload: [pandas], pool: {min: 4, max: 4}, resources: {memory_mb: 1024}}
  - {name: reset, python: ${PYTHON}, reuse: reset, preload: [pandas], pool: {min: 1, max: 2}, resources: {memory_mb: 1024}}
`;

const ROUNDS = 40;
const IN_A_ROW = 5 as const;
/** As many samples as of those in a row. */
const APART_ROUNDS = ROUNDS * IN_A_ROW;
/** What is the row's own: gateway and agent are warm by then. */
const OWN_WARM_UP = 300;

type Mode = 'fresh namespaces' | 'reset';
type Apart = `warm print(1), ${Mode}` | `warm pandas, preloaded, ${Mode}`;

/** Warm programs through the front door, beside spawning the same interpreter. */
export async function latency(): Promise<Row[]> {
  const rows: Row[] = [];
  {
    await using front = await startWarm(TEMPLATES);
    for (const template of ['fresh', 'reset'] as const)
      rows.push(...(await compare(front, template, 'print(1)', '1\n', `warm print(1), ${named(template)}`)));
  }
  if (spawnSync(PYTHON, ['-c', 'import pandas']).status !== 0) {
    process.stderr.write('skipped: warm pandas: python3-pandas is not installed\n');
    return rows;
  }
  await using front = await startWarm(PANDAS_TEMPLATES);
  for (const template of ['fresh', 'reset'] as const)
    rows.push(
      ...(await compare(front, template, PANDAS, '6\n', `warm pandas, preloaded, ${named(template)}`)),
    );
  return rows;
}

async function startWarm(templates: string): Promise<Front> {
  const front = await startFront({ templates, warm: ['fresh', 'reset'] });
  await warmUp(() => front.client.post('/v1/execute', { code: 'print(1)', template: 'reset' }));
  return front;
}

function named(template: 'fresh' | 'reset'): Mode {
  return template === 'fresh' ? 'fresh namespaces' : 'reset';
}

/** Executions each beside a spawned interpreter, as now and then one is asked for; and five in a row beside each. */
async function compare(
  front: Front,
  template: string,
  code: string,
  expected: string,
  name: Apart,
): Promise<Row[]> {
  const run = async () => {
    const answer = (await front.client.post('/v1/execute', { code, template })) as { stdout: string };
    if (answer.stdout !== expected) throw new Error(`${name}: answered ${JSON.stringify(answer)}`);
  };
  for (let turn = 0; turn < OWN_WARM_UP; turn += 1) await run();
  const spawn = () => spawnPython(code);
  return [
    row(name, await interleaved(APART_ROUNDS, run, spawn, 1)),
    row(`${name}, ${IN_A_ROW} in a row`, await interleaved(ROUNDS, run, spawn, IN_A_ROW)),
  ];
}

function row(name: Row['name'], samples: { figure: number[]; baseline: number[] }): Row {
  const figure = p50(samples.figure);
  const baseline = p50(samples.baseline);
  return {
    name,
    figure: `${ms(figure)} p50, ${ms(p99(samples.figure))} p99`,
    baseline: `${ms(baseline)} spawned`,
    value: baseline / figure,
  };
}
