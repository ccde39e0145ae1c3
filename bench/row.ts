import budgets from './budgets.json' with { type: 'json' };

/** One line of the table: a figure beside its baseline of the same run. */
export type Row = {
  name: keyof typeof budgets;
  figure: string;
  baseline: string;
  /** What the budget bounds: a ratio, ms, MB or KB. */
  value: number;
};

type Budget = { at_least?: number; at_most?: number; of: string };

/** Whether the row keeps its budget, and the budget in words. */
export function judge({ name, value }: Row): { holds: boolean; budget: string } {
  const { at_least, at_most, of }: Budget = budgets[name];
  const holds = (at_least === undefined || value >= at_least) && (at_most === undefined || value <= at_most);
  return { holds, budget: at_least === undefined ? `≤ ${at_most} ${of}` : `≥ ${at_least} ${of}` };
}

export function ms(value: number): string {
  return `${value.toFixed(value < 10 ? 2 : 1)} ms`;
}
