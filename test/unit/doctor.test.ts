import { expect, test } from 'vitest';
import type { KubernetesBackend } from '../../agent/backends/kubernetes/kubernetes-backend.ts';
import { parseQuantity } from '../../agent/backends/kubernetes/quantity.ts';
import { type Check, checkText } from '../../agent/doctor/check.ts';
import { clockCheck, SKEW_FAIL_MS, SKEW_OK_MS } from '../../agent/doctor/doctor.ts';
import { wantedOf } from '../../agent/doctor/quota-check.ts';
import { countsSandboxes, type QuotaScopes } from '../../agent/doctor/quota-scopes.ts';
import { AGENT_RIGHTS } from '../../agent/doctor/rights-check.ts';
import { checkSandbox, pidCheck, runnerCheck } from '../../agent/doctor/sandbox-check.ts';
import { parseTemplate } from '../../shared/template.ts';
import { AGENT_RULES } from '../contract/kubernetes-cluster.ts';
import { createFakeBackend } from '../fakes/fake-backend.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';
import { resultOf } from '../fakes/fake-runner.ts';

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

test.for([
  [600_000, "this machine's is 600.0 s ahead of the API server's"],
  [-600_000, "this machine's is 600.0 s behind the API server's"],
] as const)('a clock that is %s ms off is told which way', ([apartMs, detail]) => {
  expect(clockCheck('Sat, 01 Jan 2000 00:00:00 GMT', SERVER_MS + apartMs).detail).toBe(detail);
});

const NO_LANDLOCK = 'landlock: this kernel has no Landlock or does not enable it; ABI 2 is needed';
const NO_SECCOMP = 'seccomp: this kernel takes no filters (Invalid argument)';
test.for([
  [true, [], ['seccomp'], 'Python 3.13.1; programs are confined by seccomp and landlock', []],
  [
    true,
    [NO_LANDLOCK],
    ['seccomp'],
    "Python 3.13.1; programs are confined by seccomp; 'default' does not require landlock, which this node has not",
    [],
  ],
  [
    true,
    [NO_SECCOMP, NO_LANDLOCK],
    [],
    "Python 3.13.1; 'default' does not require seccomp and landlock, which this node has not",
    [],
  ],
  // What nobody requires is no reason.
  [false, [NO_SECCOMP, NO_LANDLOCK], ['seccomp'], "what 'default' requires is not there:", [NO_SECCOMP]],
  [
    false,
    ['no fresh namespaces'],
    ['seccomp'],
    "what 'default' requires is not there:",
    ['no fresh namespaces'],
  ],
] as const)(
  'a runner that is ready: %s, and lacks %j where %j is required, is told so',
  async ([ok, missing, require, detail, advice]) => {
    const template = await parseTemplate({ name: 'default', require: [...require] });
    const check = runnerCheck({ ok, python: '3.13.1', missing: [...missing] }, template);
    expect(check).toMatchObject({ state: ok ? 'ok' : 'fail', detail });
    expect(check.advice ?? []).toEqual(advice);
  },
);

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

test.for(['', 'Traceback', '{"threads": 1', '{"threads": -1, "refused": null}', 'null'])(
  'a sandbox whose probe prints %j fails a check, and not the doctor',
  async (text) => {
    const backend = createFakeBackend();
    backend.onRunner = (runner) => {
      runner.onRun = (run) => {
        run.started();
        run.output(1, `${text}\n`);
        run.exit(resultOf({ stdout_bytes: text.length + 1 }));
      };
    };
    const { signal } = new AbortController();
    const deps = { backend: backend as unknown as KubernetesBackend, clock: createFakeClock(), signal };
    const checks: Check[] = [];
    for await (const check of checkSandbox(deps, await parseTemplate({ name: 'default' })))
      checks.push(check);
    const detail = expect.stringContaining('What the probe printed is no report.');
    expect(checks.at(-1)).toMatchObject({ name: 'pid limit', state: 'fail', detail });
    expect(backend.alive).toEqual([]);
  },
);

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
  // A quota may call its requests so.
  expect(wanted).toMatchObject({ cpu: wanted['requests.cpu'], memory: wanted['requests.memory'] });
  expect([wanted.cpu, wanted.memory]).toEqual([expect.any(Number), expect.any(Number)]);
});

test('a check is one line, and its advice is below it', () => {
  const check = { name: 'rights', state: 'fail', detail: 'It may not.', advice: ['- a', '  b'] } as const;
  const indent = ' '.repeat(24);
  expect(checkText(check)).toBe(`  FAIL  rights          It may not.\n${indent}- a\n${indent}  b\n`);
});

const ofClass = (operator: string, values?: readonly string[]): QuotaScopes => ({
  scopeSelector: { matchExpressions: [{ scopeName: 'PriorityClass', operator, ...(values && { values }) }] },
});
test.for<[QuotaScopes, named: boolean, unnamed: boolean]>([
  [{}, true, true],
  [{ scopes: ['Terminating', 'NotBestEffort'] }, true, true],
  [{ scopes: ['NotTerminating'] }, false, false],
  [{ scopes: ['BestEffort'] }, false, false],
  [{ scopes: ['Terminating', 'BestEffort'] }, false, false],
  [{ scopes: ['CrossNamespacePodAffinity'] }, false, false],
  [{ scopes: ['PriorityClass'] }, true, false],
  [ofClass('Exists'), true, false],
  [ofClass('DoesNotExist'), false, true],
  [ofClass('In', ['high', 'low']), true, false],
  [ofClass('In', ['low']), false, false],
  [ofClass('NotIn', ['high', 'low']), false, true],
])('a quota of %j counts sandboxes: of class high %s, of none %s', async ([scopes, named, unnamed]) => {
  const image = 'python:3.13-slim';
  const ofHigh = await parseTemplate({ name: 't', image, kubernetes: { priority_class: 'high' } });
  expect(countsSandboxes(scopes, ofHigh)).toBe(named);
  expect(countsSandboxes(scopes, await parseTemplate({ name: 't', image }))).toBe(unnamed);
});
