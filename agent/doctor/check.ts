/** `unknown`: it could not be looked at, and that alone is no harm. Only `fail` keeps a sandbox from running as promised. */
export type CheckState = 'ok' | 'warn' | 'fail' | 'unknown';

/** One thing that was looked at. */
export type Check = {
  readonly name: string;
  readonly state: CheckState;
  readonly detail: string;
  /** What to do, line by line. */
  readonly advice?: readonly string[];
};

const MARKS: Readonly<Record<CheckState, string>> = {
  ok: 'ok  ',
  warn: 'WARN',
  fail: 'FAIL',
  unknown: '?   ',
};
const NAME_WIDTH = 16;
const INDENT = ' '.repeat(4 + MARKS.ok.length + NAME_WIDTH);

/** A check as people read it, with its line feed. */
export function checkText({ name, state, detail, advice = [] }: Check): string {
  const line = `  ${MARKS[state]}  ${name.padEnd(NAME_WIDTH)}${detail}`;
  return `${[line, ...advice.map((each) => `${INDENT}${each}`)].join('\n')}\n`;
}
