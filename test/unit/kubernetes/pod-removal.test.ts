import { expect, test } from 'vitest';
import type { KubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { createPodRemoval } from '../../../agent/backends/kubernetes/pod-removal.ts';
import { Failure } from '../../../shared/errors.ts';
import { createFakeClock } from '../../fakes/fake-clock.ts';

test('a pod that cannot be deleted now is tried once at a time, however often that is asked for', async () => {
  const clock = createFakeClock();
  let isUp = false;
  let calls = 0;
  async function call(): Promise<unknown> {
    calls += 1;
    if (!isUp) throw new Failure('backend_unavailable', 'No.');
    return {};
  }
  const { remove } = createPodRemoval({
    client: { call } as unknown as KubeClient,
    namespace: 'sandboxes',
    clock,
    random: () => 1,
    log: () => {},
    signal: new AbortController().signal,
  });
  const asked = [1, 2, 3].map(() => remove({ name: 'one' }));
  const other = remove({ name: 'other' });
  await clock.settle();
  expect(calls).toBe(2);
  isUp = true;
  await clock.advance(60_000);
  await Promise.all([...asked, other]);
  expect(calls).toBe(4);
  await remove({ name: 'one' });
  expect(calls).toBe(5);
});
