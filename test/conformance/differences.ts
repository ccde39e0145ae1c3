/** Test cases whose verdict through Podgate is not the interpreter's own, and why that is as it should be. */
export type Difference = {
  /** The verdict through Podgate. */
  verdict: 'skipped' | 'failed' | 'error' | 'ok';
  reason: string;
  tests: readonly string[];
};

export const DIFFERENCES: readonly Difference[] = [];
