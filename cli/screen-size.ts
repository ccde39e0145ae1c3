import { MAX_TERMINAL_SIDE } from '../shared/limits.ts';

const USUAL = { rows: 24, columns: 80 };

export type ScreenSize = { rows: number; columns: number };

/** The size of a screen, as one that a terminal can have: where nobody has set it, it is 0. */
export function screenSize({ rows, columns }: ScreenSize): ScreenSize {
  const side = (given: number, usual: number) => Math.min(given || usual, MAX_TERMINAL_SIDE);
  return { rows: side(rows, USUAL.rows), columns: side(columns, USUAL.columns) };
}
