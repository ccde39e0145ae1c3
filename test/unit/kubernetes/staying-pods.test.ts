import { expect, test, vi } from 'vitest';
import type { Pod } from '../../../agent/backends/kubernetes/kube-objects.ts';
import {
  createStayingPods,
  MAX_STAYING_PODS,
  STAY_MS,
} from '../../../agent/backends/kubernetes/staying-pods.ts';
import { createFakeClock } from '../../fakes/fake-clock.ts';

const LOOK_MS = STAY_MS / 6;
const HELD = { deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: ['backup.example/hold'] };

function look(count: number, metadata: Pod['metadata'] = HELD) {
  const clock = createFakeClock();
  const log = vi.fn();
  const pods = Array.from(
    { length: count },
    (_, n): Pod => ({ metadata: { ...metadata, name: `pod-${n}` } }),
  );
  return { clock, log, pods, staying: createStayingPods({ watch: { all: () => pods }, clock, log }) };
}

test('pods that a finalizer keeps are said once, with whose it is, when they have stayed for their time', async () => {
  const { clock, log, pods, staying } = look(2);
  await clock.advance(LOOK_MS + STAY_MS - 1);
  expect(log).not.toHaveBeenCalled();
  await clock.advance(10 * STAY_MS);
  const said = ['pods_stay', { pods: 2, finalizers: ['backup.example/hold'] }];
  expect(log.mock.calls).toEqual([said]);
  const kept = pods.splice(0);
  await clock.advance(LOOK_MS);
  pods.push(...kept);
  await clock.advance(LOOK_MS + STAY_MS);
  expect(log.mock.calls).toEqual([said, said]);
  staying.close();
  expect(clock.pending).toBe(0);
});

test(`at ${MAX_STAYING_PODS} of them no more are made until one is gone`, async () => {
  const { clock, pods, staying } = look(MAX_STAYING_PODS);
  staying.requireFew();
  await clock.advance(LOOK_MS + STAY_MS);
  expect(() => staying.requireFew()).toThrow(
    expect.objectContaining({
      code: 'backend_unavailable',
      detail: expect.stringContaining(
        `${MAX_STAYING_PODS} pods that were deleted stay, kept by backup.example/hold`,
      ),
    }),
  );
  pods.pop();
  await clock.advance(LOOK_MS);
  staying.requireFew();
  staying.close();
});

test.for([
  ['have a finalizer and live', { ...HELD, deletionTimestamp: undefined }],
  ['are being deleted and are nobody else’s', { ...HELD, finalizers: [] }],
] as const)('pods that %s count for nothing', async ([, metadata]) => {
  const { clock, log, staying } = look(MAX_STAYING_PODS, metadata as unknown as Pod['metadata']);
  await clock.advance(10 * STAY_MS);
  staying.requireFew();
  expect(log).not.toHaveBeenCalled();
  staying.close();
});
