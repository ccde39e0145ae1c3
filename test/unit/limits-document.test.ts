import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const ROW = /^\| (.+?) \| ([\d,.]+) \| `(\w+)` in `([^`]+)` \|$/;
const LIMITS = 'shared/limits.ts';
const RUNNER_LIMITS = 'agent/runner/podgate_runner/limits.py';
/** Of limits.py, but bounds of nothing. */
const VERSIONS = ['RUNNER_VERSION', 'PROTOCOL_VERSION'];

const lines = read('docs/limits.md')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| what |'));
const rows = lines.map((line) => ROW.exec(line)?.slice(1) as [string, string, string, string] | undefined);

/** Where a number stands beside its name: as a constant, as a member, or as a schema's default. */
function expressionOf(name: string, text: string): string | undefined {
  const number = '([\\d_.xXa-fA-F]+(?: (?:\\*|<<) [\\w.]+)*)';
  const forms = [
    `\\b${name}(?:: \\w+)? = ${number}`,
    `["']?\\b${name}["']?: ${number},`,
    `\\b${name}: [^\\n]*\\.default\\((?:Math\\.min\\()?${number}`,
  ];
  for (const form of forms) {
    const found = new RegExp(form).exec(text)?.[1];
    if (found !== undefined) return found;
  }
  return undefined;
}

function numberOf(name: string, path: string): number {
  const expression = expressionOf(name, read(path));
  if (expression === undefined) throw new Error(`${path} has no number called ${name}`);
  return expression.split(' * ').reduce((product, factor) => {
    const [base = 0, shift = 0] = factor.split(' << ').map((part) => Number(part.replaceAll('_', '')));
    return product * base * 2 ** shift;
  }, 1);
}

function constantsOf(path: string): string[] {
  return [...read(path).matchAll(/^(?:export const )?([A-Z][A-Z0-9_]*) = [\d(]/gm)].map(
    ([, name]) => name as string,
  );
}

describe('docs/limits.md', () => {
  test('has nothing but lines with a number and its constant', () => {
    expect(rows.length).toBeGreaterThan(100);
    expect(lines.filter((_, index) => rows[index] === undefined)).toEqual([]);
  });

  test.each(rows.filter((row) => row !== undefined))(
    'says of %s what the code says',
    (_what, value, name, path) => {
      expect(numberOf(name, path)).toBe(Number(value.replaceAll(',', '')));
    },
  );

  test.each([LIMITS, RUNNER_LIMITS])('names every constant of %s', (path) => {
    const named = rows.filter((row) => row?.[3] === path).map((row) => row?.[2]);
    const constants = constantsOf(path).filter((name) => !VERSIONS.includes(name));
    expect(constants.length).toBeGreaterThan(30);
    expect(constants.filter((name) => !named.includes(name))).toEqual([]);
  });
});
