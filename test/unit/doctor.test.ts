import { expect, test } from 'vitest';
import { parseQuantity } from '../../agent/backends/kubernetes/quantity.ts';
import { checkText } from '../../agent/doctor/check.ts';
import { clockCheck, SKEW_FAIL_MS, SKEW_OK_MS } from '../../agent/doctor/doctor.ts';
import { wantedOf } from '../../agent/doctor/quota-check.ts';
import { AGENT_RIGHTS } from '../../agent/doctor/rights-check.ts';
import { pidCheck } from '../../agent/doctor/sandbox-check.ts';
import { parseTemplate } from '../../shared/template.ts';
import { AGENT_RULES } from '../contract/kubernetes-cluster.ts';

test('the doctor asks for what the manifest grants, no more and no less', () => {
  expect(AGENT_RIGHTS).toEqual(
    AGENT_RULES.map(({ apiGroups, resources, verbs }) => [apiGroups[0], resources[0], verbs]),
  );
});

const SERVER_MS = Date.parse('Sat, 01 Jan 2000 00:00:00 GMT') + 500;
test.for([
  [0, 'ok'],
  [SKEW_OK_MS - 1, 'ok'],
  [SKEW_OK_MS, 'warn'],
  [-SKEW_OK_MS, 'warn'],
  [SKEW_FAIL_MS - 1, 'warn'],
  [SKEW_FAIL_MS, 'fail'],
  [-SKEW_FAIL_MS, 'fail'],
] as const)('a clock that is %s ms off is %s', ([apartMs, state]) => {
  expect(clockCheck('Sat, 01 Jan 2000 00:00:00 GMT', SERVER_MS + apartMs).state).toBe(state);
});

test('a server that does not say its time leaves the clock unknown', () => {
  for (const date of [undefined, '', 'soon']) expect(clockCheck(date, SERVER_MS).state).toBe('unknown');
});

test.for([
  // What its limit is, or whether it has one, was not found out.
  [{ threads: 1_024, refused: null }, 'unknown', /none below 1024 threads was met.*'default' takes 128/],
  [{ threads: 20, refused: 'else' }, 'unknown', /beside 20 was refused, and no limit on processes was why/],
  [{ threads: 136, refused: 'pids' }, 'ok', /about 136 threads/],
  [{ threads: 135, refused: 'pids' }, 'warn', /less than the 128 of template 'default'/],
] as const)('a node that gives %j is %s', async ([found, state, words]) => {
  const check = pidCheck(found, await parseTemplate({ name: 'default' }));
  expect(check).toMatchObject({ state, detail: expect.stringMatching(words) });
});

test.for([
  ['500m', 0.5],
  ['2', 2],
  ['1e3', 1_000],
  ['10k', 10_000],
  ['4Gi', 4 * 2 ** 30],
  ['128Mi', 2 ** 27],
  ['', Number.NaN],
  ['4GiB', Number.NaN],
  ['many', Number.NaN],
] as const)('the quantity %j is %s', ([text, amount]) => {
  expect(parseQuantity(text)).toBe(amount);
});

test('what pools want is all of them at their largest, with their canaries', async () => {
  const template = async (name: string, max: number) =>
    parseTemplate({ name, image: 'i', pool: { min: 1, max }, resources: { cpus: 0.5 } });
  const wanted = wantedOf([await template('a', 4), await template('b', 3)]);
  expect(wanted).toMatchObject({ pods: 13, 'count/pods': 13, 'limits.cpu': 3.5 });
});

test('a check is one line, and its advice is below it', () => {
  const check = { name: 'rights', state: 'fail', detail: 'It may not.', advice: ['- a', '  b'] } as const;
  const indent = ' '.repeat(24);
  expect(checkText(check)).toBe(`  FAIL  rights          It may not.\n${indent}- a\n${indent}  b\n`);
});
