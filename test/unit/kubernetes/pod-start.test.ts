import { expect, test } from 'vitest';
import { KubeRefusal } from '../../../agent/backends/kubernetes/kube-failure.ts';
import type { Pod } from '../../../agent/backends/kubernetes/kube-objects.ts';
import { CONTAINER } from '../../../agent/backends/kubernetes/pod-spec.ts';
import {
  createPodStart,
  DOUBT_MS,
  type PodStartDeps,
  START_TIMEOUT_MS,
  UNREACHED_MS,
} from '../../../agent/backends/kubernetes/pod-start.ts';
import type { PodWatch } from '../../../agent/backends/kubernetes/pod-watch.ts';
import { orAborted } from '../../../agent/deadline.ts';
import { pause } from '../../../agent/pause.ts';
import { POOL_BOUNDS } from '../../../agent/pool/bounds.ts';
import { Failure } from '../../../shared/errors.ts';
import { createFakeClock, type FakeClock } from '../../fakes/fake-clock.ts';

const taken: Pod = { metadata: { name: 'one' }, spec: { nodeName: 'node' }, status: { phase: 'Pending' } };
const running: Pod = {
  ...taken,
  status: { phase: 'Running', containerStatuses: [{ name: CONTAINER, state: { running: {} } }] },
};

test.for([
  ['that no scheduler has taken', { ...taken, spec: {} }, /^No scheduler/],
  ['that its node has not started', taken, /^The node has not started the pod: its events say why/],
  ['whose runner is not reached', running, /^The pod runs/],
] as const)('a pod %s says so, before its pool gives it up', async ([, pod, detail]) => {
  const clock = createFakeClock();
  const made = startUnreached(
    seen(() => pod),
    clock,
  );
  const refused = expect(made).rejects.toMatchObject({
    code: 'backend_unavailable',
    detail: expect.stringMatching(detail),
  });
  await clock.advance(POOL_BOUNDS.createTimeoutMs - 1);
  await refused;
});

const busy = new KubeRefusal('backend_unavailable', 'The API server has too much to do.', {
  httpStatus: 429,
  reason: 'TooManyRequests',
  words: '',
  retryAfterMs: 2_000,
});
const silent = new Failure('backend_unavailable', 'No exec can be opened.');

test.for([
  ['are refused by a busy server', 0, busy],
  ['hang', 15_000, silent],
] as const)(
  'a pod that runs, and into which execs %s, is given up with the reason after 30 s',
  async ([, takesMs, cause]) => {
    const clock = createFakeClock();
    const startedMs = clock.now();
    let atMs: number | undefined;
    const made = startUnreached(
      seen(() => running),
      clock,
      async (_name, signal) => {
        await pause(clock, takesMs, signal);
        throw cause;
      },
    );
    const refused = expect(made).rejects.toBe(cause);
    made.catch(() => {
      atMs = clock.now() - startedMs;
    });
    await clock.advance(START_TIMEOUT_MS - 1);
    await refused;
    expect(atMs).toBeGreaterThanOrEqual(UNREACHED_MS);
    expect(atMs).toBeLessThan(UNREACHED_MS + 15_000 + 2_000);
  },
);

test('a pod whose node still pulls its image is waited for, however long a busy server refuses execs', async () => {
  const clock = createFakeClock();
  const startedMs = clock.now();
  const pulledMs = START_TIMEOUT_MS - 2 * UNREACHED_MS;
  const watch = seen(() => (clock.now() - startedMs < pulledMs ? taken : running));
  const made = startUnreached(watch, clock, () => Promise.reject(busy));
  let failure: unknown;
  made.catch((cause) => {
    failure = cause;
  });
  await clock.advance(pulledMs);
  expect(failure).toBeUndefined();
  await clock.advance(UNREACHED_MS - 1);
  expect(failure).toBeUndefined();
  await clock.advance(1 + 2_000);
  expect(failure).toBe(busy);
});

/** Has seen the pod as it is, and hears no more. */
function seen(pod: () => Pod): Pick<PodWatch, 'get' | 'silentMs' | 'until'> {
  return {
    get: pod,
    silentMs: () => 0,
    until(_name, see, signal) {
      const value = see(pod(), false);
      return value === undefined ? orAborted(new Promise(() => {}), signal) : Promise.resolve(value);
    },
  };
}

/** Starts a pod that is never reached. */
function startUnreached(
  watch: Partial<PodWatch>,
  clock: FakeClock,
  open: PodStartDeps['open'] = (_name, signal) => orAborted(new Promise(() => {}), signal),
): Promise<unknown> {
  const start = createPodStart({
    watch: watch as PodWatch,
    clock,
    open,
    unschedulableMs: 1,
    startTimeoutMs: START_TIMEOUT_MS,
  });
  return start.run('one', new AbortController().signal);
}

/** Pods that nobody can see: `heardMs` ago the server last said something, and since then it says no. */
function startUnheard(heardMs: number) {
  const clock = createFakeClock();
  const fromMs = clock.now();
  const watch: Partial<PodWatch> & { trouble: Failure | undefined; silentSinceMs: number } = {
    trouble: new Failure('backend_unavailable', 'The API server answered 500.'),
    silentSinceMs: fromMs - heardMs,
    get: () => undefined,
    silentMs: () => clock.now() - watch.silentSinceMs,
    until: (_name, _see, signal) => orAborted(new Promise(() => {}), signal),
    refresh() {},
  };
  const made = startUnreached(watch, clock);
  let failure: unknown;
  made.catch((cause) => {
    failure = cause;
  });
  return { clock, watch, failure: () => failure };
}

test.for([
  [0, 35_000],
  [60_000, 15_000],
] as const)(
  'a pod that cannot be seen, as its server was last heard %s ms ago, is given up with what the server says after %s ms',
  async ([heardMs, afterMs]) => {
    const { clock, failure } = startUnheard(heardMs);
    await clock.advance(afterMs - 1);
    expect(failure()).toBeUndefined();
    await clock.advance(1);
    expect(failure()).toMatchObject({ detail: 'The API server answered 500.' });
  },
);

test('a pod whose server was not heard for a moment is waited for', async () => {
  const { clock, watch, failure } = startUnheard(60_000);
  await clock.advance(DOUBT_MS);
  watch.silentSinceMs = clock.now();
  await clock.advance(10_000);
  const { trouble } = watch;
  watch.trouble = undefined;
  await clock.advance(20_000);
  watch.trouble = trouble;
  await clock.advance(40_000);
  expect(failure()).toBeUndefined();
});
