import { spawnSync } from 'node:child_process';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { describeStack } from './suite.ts';

const PYTHON = '/usr/bin/python3';
const ROWS = 400_000;
const MIN_BYTES = 10_000_000;
const REGIONS = ['north', 'south', 'east', 'west'];

const SCIENCE = {
  name: 'science',
  python: PYTHON,
  preload: ['numpy', 'pandas', 'matplotlib.pyplot'],
  resources: { memory_mb: 1_024, cpu_seconds: 60, workspace_mb: 128, timeout_ms: 60_000 },
  pool: { min: 1, max: 2 },
};
/** All its limits are the defaults. */
const PLAIN = { name: 'plain', python: PYTHON, pool: { min: 1, max: 1 } };
const PRODUCT_AND_PLOT = `
import numpy
import matplotlib.pyplot as plt
product = numpy.random.rand(400, 400) @ numpy.linalg.inv(numpy.random.rand(400, 400))
plt.plot(product[0])
plt.savefig("plot.png")
print(product.shape)
`;

const PROGRAM = `
import json
import pandas as pd
import matplotlib.pyplot as plt

frame = pd.read_csv("sales.csv", parse_dates=["day"])
by_region = frame.groupby("region")["amount"].agg(["count", "sum", "min", "max", "median"])
summary = {
    "rows": len(frame),
    "first": str(frame["day"].min().date()),
    "last": str(frame["day"].max().date()),
    "regions": {name: {key: float(value) for key, value in row.items()} for name, row in by_region.iterrows()},
}
with open("summary.json", "w") as file:
    json.dump(summary, file)
axes = by_region["sum"].plot.bar(figsize=(6.4, 4.8), title="Umsätze je Region")
axes.figure.savefig("plot.png", dpi=100)
by_region["sum"].idxmax()
`;

/** No installed pandas is a reason to skip, not to fail. */
function scienceTrouble(): string | undefined {
  const { status } = spawnSync(PYTHON, ['-c', 'import pandas, matplotlib.pyplot'], {
    env: { MPLCONFIGDIR: '/tmp' },
  });
  return status === 0
    ? undefined
    : `${PYTHON} has no pandas and matplotlib: apt-get install python3-pandas python3-matplotlib`;
}

/** Rows that a small generator makes the same everywhere, and what they come to. */
function makeSales() {
  const lines = ['id,day,region,amount,note'];
  const amounts = new Map<string, number[]>(REGIONS.map((region) => [region, []]));
  let state = 1;
  for (let id = 0; id < ROWS; id += 1) {
    state = (state * 48_271) % 2_147_483_647;
    const region = REGIONS[state % 4] as string;
    const amount = (state % 1_000_000) / 100;
    const day = new Date(Date.UTC(2024, 0, 1 + (id % 366))).toISOString().slice(0, 10);
    amounts.get(region)?.push(amount);
    lines.push(`${id},${day},${region},${amount.toFixed(2)},"a, b"`);
  }
  return { csv: `${lines.join('\n')}\n`, amounts };
}

describeStack('A program that imports pandas and matplotlib', { templates: [SCIENCE, PLAIN] }, (stack) => {
  test('reads an uploaded CSV of 10 MB and gives back a PNG and a summary that is right', {
    timeout: 60_000,
  }, async (context) => {
    const trouble = scienceTrouble();
    context.skip(trouble !== undefined, trouble);
    const { csv, amounts } = makeSales();
    expect(csv.length).toBeGreaterThanOrEqual(MIN_BYTES);
    const { file_id } = await stack().podgate.files.upload(csv, { filename: 'sales.csv' });
    const ran = await stack().run(PROGRAM, {
      template: 'science',
      files: [{ path: 'sales.csv', file_id }],
      timeout_ms: 60_000,
      queue_timeout_ms: 30_000,
    });
    expect(ran).toMatchObject({ exit_code: 0, stderr: '', files_omitted: [] });
    const content = async (path: string) => {
      const file = ran.files.find((each) => each.path === path);
      return buffer((await stack().podgate.files.download(file?.file_id ?? path)).body);
    };
    expect(ran.files.map(({ path }) => path).sort()).toEqual(['plot.png', 'summary.json']);

    const summary = JSON.parse(String(await content('summary.json')));
    const expected = Object.fromEntries([...amounts].map(([region, values]) => [region, statistics(values)]));
    expect(summary).toMatchObject({ rows: ROWS, first: '2024-01-01', last: '2024-12-31' });
    expect(Object.keys(summary.regions).sort()).toEqual([...REGIONS].sort());
    for (const region of REGIONS)
      for (const [name, value] of Object.entries(expected[region] ?? {}))
        expect([region, name, summary.regions[region][name]]).toEqual([
          region,
          name,
          expect.closeTo(value, 3),
        ]);
    const [largest] = REGIONS.toSorted((a, b) => (expected[b]?.sum ?? 0) - (expected[a]?.sum ?? 0));
    expect(ran.stdout).toBe(`'${largest}'\n`);

    const png = await content('plot.png');
    expect(png.subarray(0, 8)).toEqual(Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'));
    expect(png.subarray(12, 16).toString('latin1')).toBe('IHDR');
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([640, 480]);
    expect(png.subarray(-8, -4).toString('latin1')).toBe('IEND');
  });

  test('multiplies matrices and plots within the default limits, however many processors there are', async (context) => {
    const trouble = scienceTrouble();
    context.skip(trouble !== undefined, trouble);
    const ran = await stack().run(PRODUCT_AND_PLOT, {
      template: 'plain',
      queue_timeout_ms: 30_000,
      timeout_ms: 30_000,
    });
    expect(ran).toMatchObject({ stdout: '(400, 400)\n', exit_code: 0, files: [{ path: 'plot.png' }] });
  });

  test('finds numpy ready, with its threads, in one execution after the other', async (context) => {
    const trouble = scienceTrouble();
    context.skip(trouble !== undefined, trouble);
    for (let round = 0; round < 3; round += 1) {
      const code =
        'import sys; ready = "numpy" in sys.modules; import numpy; (numpy.ones((400, 400)) @ numpy.ones((400, 400))).sum(), ready';
      const ran = await stack().run(code, {
        template: 'science',
        queue_timeout_ms: 30_000,
        timeout_ms: 20_000,
      });
      expect(ran).toMatchObject({ stdout: '(64000000.0, True)\n', stderr: '', exit_code: 0 });
    }
  });
});

function statistics(values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] as number;
  return {
    count: values.length,
    sum: values.reduce((sum, value) => sum + value, 0),
    min: sorted[0] as number,
    max: sorted.at(-1) as number,
    median: sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] as number)) / 2,
  };
}
