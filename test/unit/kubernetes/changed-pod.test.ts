import { expect, test } from 'vitest';
import { requireUnchanged } from '../../../agent/backends/kubernetes/changed-pod.ts';

const asked = { spec: { restartPolicy: 'Never', shareProcessNamespace: false, hostPID: false } };

test.for([{ shareProcessNamespace: true }, { hostPID: true }])(
  'a pod that shares its processes (%j) is refused, also where the namespace allows it',
  (change) => {
    expect(() => requireUnchanged(asked, { spec: { ...asked.spec, ...change } })).toThrow(
      expect.objectContaining({
        code: 'policy_denied',
        detail: expect.stringContaining('process namespace'),
      }),
    );
  },
);

test('a pod of which a server leaves out what is false is as it was asked for', () => {
  expect(() => requireUnchanged(asked, { spec: { restartPolicy: 'Never' } })).not.toThrow();
});
