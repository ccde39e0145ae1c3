import { expect, test } from 'vitest';
import { parseExecStatus } from '../../../agent/backends/kubernetes/exec-status.ts';
import { MAX_WORDS } from '../../../agent/backends/kubernetes/kube-answer.ts';
import { statusFailure } from '../../../agent/backends/kubernetes/kube-failure.ts';

const FAILED = { status: 'Failure', reason: 'NonZeroExitCode' };
const parse = (status: unknown) => parseExecStatus(JSON.stringify(status));

test.for([
  ['success', { status: 'Success' }, { exitCode: 0, reason: 'Completed' }],
  ['a code', { ...FAILED, details: { causes: [{ reason: 'ExitCode', message: '3' }] } }, { exitCode: 3 }],
  ['nothing', {}, { exitCode: null, reason: 'Unknown', words: '' }],
  ['no causes', { ...FAILED, details: null }, { exitCode: null }],
  ['causes that are none', { ...FAILED, details: { causes: 'none' } }, { exitCode: null }],
  ['causes without one', { ...FAILED, details: { causes: [null, 7] } }, { exitCode: null }],
  ['words that are none', { ...FAILED, message: {}, reason: 7 }, { reason: 'Unknown', words: '' }],
] as const)('an exec that ends with %s is understood', ([, status, understood]) => {
  expect(parse(status)).toMatchObject(understood);
});

test.for(['', 'null', '7', '"Success"', '{'])('a status that is none fails the stream: %j', (text) => {
  expect(() => parseExecStatus(text)).toThrow(
    expect.objectContaining({ name: 'Failure', code: 'sandbox_lost', started: 'unknown' }),
  );
});

test('of what a cluster says in its own words the first are kept, and no more', () => {
  const message = 'w'.repeat(MAX_WORDS);
  expect(parse({ message: `${message}x` }).words).toBe(message);
  expect(statusFailure({ message: `${message}x` }, { status: 500, what: 'it' }).words).toBe(message);
  const strange = { message: {}, reason: 7 } as never;
  expect(statusFailure(strange, { status: 403, what: 'it' })).toMatchObject({ words: '', reason: '' });
});
