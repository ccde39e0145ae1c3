import { expect, test } from 'vitest';
import type { Pod } from '../../../agent/backends/kubernetes/kube-objects.ts';
import { CONTAINER } from '../../../agent/backends/kubernetes/pod-spec.ts';
import { createPodStart, START_TIMEOUT_MS } from '../../../agent/backends/kubernetes/pod-start.ts';
import type { PodWatch } from '../../../agent/backends/kubernetes/pod-watch.ts';
import { orAborted } from '../../../agent/deadline.ts';
import { POOL_BOUNDS } from '../../../agent/pool/bounds.ts';
import { createFakeClock } from '../../fakes/fake-clock.ts';

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
  /** Has seen the pod as it is, and hears no more. */
  const watch: Pick<PodWatch, 'get' | 'silentMs' | 'until'> = {
    get: () => pod,
    silentMs: () => 0,
    until(_name, see, signal) {
      const value = see(pod, false);
      return value === undefined ? orAborted(new Promise(() => {}), signal) : Promise.resolve(value);
    },
  };
  const start = createPodStart({
    watch: watch as PodWatch,
    clock,
    open: (_name, signal) => orAborted(new Promise(() => {}), signal),
    unschedulableMs: 1,
    startTimeoutMs: START_TIMEOUT_MS,
  });
  const made = start.run('one', new AbortController().signal);
  const refused = expect(made).rejects.toMatchObject({
    code: 'backend_unavailable',
    detail: expect.stringMatching(detail),
  });
  await clock.advance(POOL_BOUNDS.createTimeoutMs - 1);
  await refused;
});
