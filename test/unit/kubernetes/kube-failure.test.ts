import { expect, test } from 'vitest';
import { isPassing, lacksRight, statusFailure } from '../../../agent/backends/kubernetes/kube-failure.ts';
import {
  createRightsBook,
  REFUSED_FOR_MS,
  type Right,
  rightOf,
} from '../../../agent/backends/kubernetes/rights.ts';
import { Failure } from '../../../shared/errors.ts';
import { createFakeClock } from '../../fakes/fake-clock.ts';

const rows: [status: number, words: string, code: string, detail: RegExp, passes: boolean][] = [
  [401, 'Unauthorized', 'backend_unavailable', /credentials/, false],
  [403, 'pods "p" is forbidden: exceeded quota: q, requested: pods=1', 'quota_exceeded', /quota/, false],
  [403, 'pods "p" is forbidden: failed quota: q: must specify limits.cpu', 'quota_exceeded', /quota/, false],
  [
    403,
    'pods "p" is forbidden: violates PodSecurity "restricted:latest": privileged',
    'policy_denied',
    /Pod Security Standard/,
    false,
  ],
  [
    403,
    'pods "p" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 50.000000',
    'policy_denied',
    /LimitRange/,
    false,
  ],
  [
    403,
    'admission webhook "validate.example" denied the request: no',
    'policy_denied',
    /admission policy/,
    false,
  ],
  [
    400,
    'admission webhook "validate.kyverno.svc-fail" denied the request: no',
    'policy_denied',
    /admission policy/,
    false,
  ],
  [
    422,
    `pods "p" is forbidden: ValidatingAdmissionPolicy 'a' with binding 'b' denied request: no`,
    'policy_denied',
    /admission policy/,
    false,
  ],
  [
    403,
    'pods is forbidden: User "u" cannot create resource "pods/exec" in API group "" in the namespace "ns"',
    'backend_unavailable',
    /may not create pods\/exec in namespace ns/,
    false,
  ],
  [
    403,
    'leases.coordination.k8s.io is forbidden: User "u" cannot update resource "leases" in API group "coordination.k8s.io" in the namespace "ns"',
    'backend_unavailable',
    /may not update leases \(coordination\.k8s\.io\) in namespace ns/,
    false,
  ],
  [
    403,
    'pods "p" is forbidden: unable to create new content in namespace ns because it is being terminated',
    'backend_unavailable',
    /namespace is being deleted/,
    false,
  ],
  [
    403,
    'pods "p" is forbidden: maximum memory usage per Container is 32Mi, but limit is 64Mi',
    'policy_denied',
    /LimitRange/,
    false,
  ],
  [
    403,
    'pods "p" is forbidden: status unknown for quota: podgate-sandboxes, resources: pods,requests.cpu',
    'backend_unavailable',
    /not counted/,
    false,
  ],
  [
    403,
    'pods "p" is forbidden: error looking up service account ns/default: serviceaccount "default" not found',
    'backend_unavailable',
    /service account/,
    false,
  ],
  [
    403,
    'pods "p" is forbidden: pod rejected: RuntimeClass "none" not found',
    'policy_denied',
    /no such runtime class/,
    false,
  ],
  [
    403,
    'pods "p" is forbidden: no PriorityClass with name none was found',
    'policy_denied',
    /priority class/,
    false,
  ],
  [404, 'namespaces "n" not found', 'backend_unavailable', /^Namespace n does not exist\.$/, false],
  [404, 'pods "p" not found', 'backend_unavailable', /does not know/, false],
  [
    409,
    'Operation cannot be fulfilled on resourcequotas "q": the object has been modified',
    'backend_unavailable',
    /came first/,
    true,
  ],
  [409, 'pods "p" already exists', 'backend_unavailable', /came first/, false],
  [422, 'Pod "p" is invalid: spec.containers[0].image', 'policy_denied', /invalid/, false],
  [429, 'too many', 'backend_unavailable', /too much/, true],
  [500, 'etcdserver: leader changed', 'backend_unavailable', /answered 500/, true],
  [
    500,
    'Internal error occurred: failed calling webhook "w.example": failed to call webhook: Post "https://w": context deadline exceeded',
    'backend_unavailable',
    /admission webhook .* does not answer/,
    true,
  ],
  [503, '', 'backend_unavailable', /answered 503/, true],
];
test.for(rows)('%i %j is %s', ([status, message, code, detail, passes]) => {
  const failure = statusFailure({ message }, { status, what: 'POST pods' });
  expect(failure).toMatchObject({ code, httpStatus: status, words: message });
  expect(failure.detail).toMatch(detail);
  expect(isPassing(failure)).toBe(passes);
});

test.for([
  [429, '7', 7000],
  [429, undefined, 1000],
  [503, '100000', 60_000],
  [500, '7', undefined],
] as const)('%i with Retry-After %s waits %s ms', ([status, retryAfter, ms]) => {
  expect(statusFailure({}, { status, retryAfter, what: 'x' }).retryAfterMs).toBe(ms);
});

const PODS = '/api/v1/namespaces/ns/pods';
test.for([
  ['GET', PODS, true, 'watch pods'],
  ['GET', PODS, false, 'list pods'],
  ['GET', `${PODS}/p`, false, 'get pods'],
  ['DELETE', `${PODS}/p`, false, 'delete pods'],
  [
    'PUT',
    '/apis/coordination.k8s.io/v1/namespaces/ns/leases/l',
    false,
    'update leases (coordination.k8s.io)',
  ],
] as const)(
  '%s %s (watch: %s) that is refused without words is the lack of %s',
  ([method, path, isWatch, what]) => {
    const right = rightOf({ method, path, isWatch });
    for (const message of ['', '<html>proxy</html>']) {
      const failure = statusFailure({ message }, { status: 403, what: 'it', right });
      expect(failure.detail).toBe(`The agent may not ${what} in namespace ns: its Role lacks that rule.`);
      expect(lacksRight(failure)).toBe(true);
    }
  },
);

test.for([
  [403, 'admission webhook "no-exec.example" denied the request: no'],
  [400, 'admission webhook "no-exec.example" denied the request: no'],
  [422, `pods "p" is forbidden: ValidatingAdmissionPolicy 'a' with binding 'b' denied request: no`],
] as const)('what a policy refuses with %i is not called the lack of a rule: %s', ([status, message]) => {
  const right = rightOf({ method: 'GET', path: `${PODS}/p/exec` });
  const failure = statusFailure({ message }, { status, what: 'it', right });
  expect(failure).toMatchObject({
    code: 'backend_unavailable',
    detail: 'The agent may not get pods/exec in namespace ns: an admission policy refuses it.',
  });
  expect(lacksRight(failure)).toBe(true);
});

test('what a Role lacks and what a policy refuses are two sentences', () => {
  const book = createRightsBook({ clock: createFakeClock(), log: () => {} });
  const get = rightOf({ method: 'GET', path: `${PODS}/p` }) as Right;
  book.refused(get);
  book.refused({ ...get, verb: 'delete', byPolicy: true });
  expect(book.sentence).toBe(
    'The agent may not get pods in namespace ns: its Role lacks that rule. The agent may not delete pods in namespace ns: an admission policy refuses it.',
  );
});

test('the creation of a pod that is refused without words may be a policy', () => {
  const right = rightOf({ method: 'POST', path: PODS });
  const failure = statusFailure({}, { status: 403, what: 'it', right });
  expect(failure).toMatchObject({ code: 'policy_denied', right: undefined });
});

test('rights that are missing are one sentence, each is said once, and what is let through is forgotten', () => {
  const clock = createFakeClock();
  const said: unknown[] = [];
  const book = createRightsBook({ clock, log: (_event, fields) => said.push(fields?.detail) });
  const right = (method: string) => rightOf({ method, path: `${PODS}/p` }) as Right;
  expect(book.sentence).toBeNull();
  for (const method of ['DELETE', 'GET', 'DELETE']) book.refused(right(method));
  expect(said).toHaveLength(2);
  expect(book.sentence).toBe(
    'The agent may not delete pods, get pods in namespace ns: its Role lacks those rules.',
  );
  expect(book.lacks('delete', 'pods')).toBe(true);
  book.allowed(right('GET'));
  expect(book.sentence).toBe('The agent may not delete pods in namespace ns: its Role lacks that rule.');
  expect(book.lacks('get', 'pods')).toBe(false);
});

test('a right that was refused is tried again after a minute, and not before', async () => {
  const clock = createFakeClock();
  const book = createRightsBook({ clock, log: () => {} });
  book.refused(rightOf({ method: 'DELETE', path: `${PODS}/p` }) as Right);
  await clock.advance(REFUSED_FOR_MS - 1);
  expect(book.lacks('delete', 'pods')).toBe(true);
  await clock.advance(1);
  expect(book.lacks('delete', 'pods')).toBe(false);
});

test('a server that cannot be reached may be asked again', () => {
  expect(isPassing(new Failure('backend_unavailable', 'gone'))).toBe(true);
  expect(isPassing(new Error('a bug'))).toBe(false);
});
