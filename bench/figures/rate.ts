import { startFront } from '../processes.ts';
import type { Row } from '../row.ts';
import { PYTHON, spawnPython } from '../spawn-baseline.ts';
import { throughput } from '../stats.ts';
import { WARM_UP } from '../warm-up.ts';

const IN_FLIGHT = 32;
const TOTAL = 1_500;
const BASELINE_TOTAL = 200;
const TEMPLATES = `
templates:
  - {name: fresh, python: ${PYTHON}, reuse: single_use, pool: {min: 6, max: 6}}
  - {name: reset, python: ${PYTHON}, reuse: reset, pool: {min: 6, max: 6}}
`;

/** Short programs a second with 32 in flight, beside spawning an interpreter for each with as many in flight. */
export async function rate(): Promise<Row[]> {
  await using front = await startFront({ templates: TEMPLATES, warm: ['fresh', 'reset'] });
  const rows: Row[] = [];
  for (const [template, name] of [
    ['fresh', 'executions a second, 32 in flight, fresh namespaces'],
    ['reset', 'executions a second, 32 in flight, reset'],
  ] as const) {
    const run = async () => {
      const answer = (await front.client.post('/v1/execute', {
        code: 'print(1)',
        template,
        timeout_ms: 30_000,
        queue_timeout_ms: 30_000,
      })) as { stdout: string };
      if (answer.stdout !== '1\n') throw new Error(`answered ${JSON.stringify(answer)}`);
    };
    await throughput(WARM_UP, IN_FLIGHT, run);
    const before = await throughput(BASELINE_TOTAL, IN_FLIGHT, () => spawnPython('print(1)'));
    const figure = await throughput(TOTAL, IN_FLIGHT, run);
    const after = await throughput(BASELINE_TOTAL, IN_FLIGHT, () => spawnPython('print(1)'));
    const baseline = (before + after) / 2;
    rows.push({
      name,
      figure: `${figure.toFixed(0)}/s`,
      baseline: `${baseline.toFixed(0)}/s spawned`,
      value: figure / baseline,
    });
  }
  return rows;
}
