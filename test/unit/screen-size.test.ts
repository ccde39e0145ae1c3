import { expect, test } from 'vitest';
import { screenSize } from '../../cli/screen-size.ts';
import { MAX_TERMINAL_SIDE } from '../../shared/limits.ts';

test.each([
  [
    { rows: 40, columns: 132 },
    { rows: 40, columns: 132 },
  ],
  [
    { rows: 0, columns: 0 },
    { rows: 24, columns: 80 },
  ],
  [
    { rows: 1, columns: 0 },
    { rows: 1, columns: 80 },
  ],
  [
    { rows: MAX_TERMINAL_SIDE, columns: MAX_TERMINAL_SIDE + 1 },
    { rows: MAX_TERMINAL_SIDE, columns: MAX_TERMINAL_SIDE },
  ],
])('a screen of %j is asked for as a terminal of %j', (screen, asked) => {
  expect(screenSize(screen)).toEqual(asked);
});
