import { expect } from 'vitest';
import type { PythonResults } from '../../shared/result-api.ts';
import type { TemplateInput } from '../../shared/template.ts';

/** One template whose interpreter has numpy, pandas and matplotlib where the machine has them. */
export function pythonTemplates(resources: NonNullable<TemplateInput['resources']>): TemplateInput[] {
  return [
    {
      name: 'default',
      languages: ['python', 'bash'],
      pool: { min: 1, max: 3 },
      python: '/usr/bin/python3',
      resources,
    },
  ];
}

/** A value that shows itself in several ways. */
export const SHOWN = `
class Shown:
    def _repr_html_(self): return "<b>é</b>"
    def _repr_png_(self): return b"\\x89PNG"
    def _repr_json_(self): return {"a": [1, None]}
    def _repr_latex_(self): raise ValueError
    def __repr__(self): return "shown"
Shown()`;

export function expectShown(results: PythonResults['results'] | undefined): void {
  expect(results).toEqual([
    {
      kind: 'result',
      data: {
        'text/plain': 'shown',
        'text/html': '<b>é</b>',
        'image/png': Buffer.from('\x89PNG', 'latin1').toString('base64'),
        'application/json': { a: [1, null] },
      },
    },
  ]);
}

export const TWO_FIGURES = `
import matplotlib.pyplot as plt
plt.plot([1, 2, 3])
plt.figure()
plt.bar([1, 2], [3, 4])
`;
/** Prints how many lines the second figure has, and which figures are open then. */
export const SHOWN_FIGURES = `
import matplotlib.pyplot as plt
plt.plot([1, 2]); plt.show()
plt.plot([3, 4]); print(len(plt.gca().lines), plt.get_fignums()); plt.show(block=False)
`;
export const FIGURES_AND_TABLE = `${TWO_FIGURES}
import pandas as pd
pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [2.5e-12, 1 / 3]})`;

export function expectFiguresAndTable(results: PythonResults['results'] | undefined): void {
  expect(results?.map(({ kind }) => kind)).toEqual(['result', 'figure', 'figure']);
  const [table, ...figures] = results ?? [];
  expect(table?.data['text/html']).toContain('<table');
  expect(table?.data['application/json']).toEqual({
    columns: ['a', 'b', 'c'],
    index: [0, 1],
    data: [
      [1, 'x', 2.5e-12],
      [2, null, 0.333333333333333],
    ],
  });
  for (const { data } of figures)
    expect(Buffer.from(String(data['image/png']), 'base64').subarray(1, 4).toString()).toBe('PNG');
}

/** A table as pandas has them, on machines that have no pandas too. */
export function tableOf(rows: number): string {
  return `
import json, sys, types
class DataFrame:
    def __init__(self, rows): self.rows = rows
    def __len__(self): return self.rows
    def head(self, rows): return DataFrame(min(rows, self.rows))
    def to_json(self, **_): return json.dumps({"index": list(range(self.rows))})
pandas = sys.modules["pandas"] = types.ModuleType("pandas")
pandas.DataFrame, pandas.Series = DataFrame, type("Series", (), {})
DataFrame(${rows})`;
}
