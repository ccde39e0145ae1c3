import { expect, test } from 'vitest';
import type { Pod } from '../../../agent/backends/kubernetes/kube-objects.ts';
import {
  SWEEP_MS,
  sweepUnwantedPods,
  UNWANTED_MS,
} from '../../../agent/backends/kubernetes/unwanted-pods.ts';
import { createFakeClock } from '../../fakes/fake-clock.ts';

function pod(name: string, phase = 'Running', more: Pod['metadata'] = {}): Pod {
  return { metadata: { name, uid: `uid of ${name}`, ...more }, status: { phase } };
}

/** Sweeps these pods; whoever is in `known` is an own sandbox. */
function sweep(...seen: Pod[]) {
  const clock = createFakeClock();
  const pods = new Map(seen.map((each) => [each.metadata?.name ?? '', each]));
  const known = new Set<string>();
  const removed: [string, string | undefined][] = [];
  const stop = sweepUnwantedPods({
    watch: { all: () => pods.values() },
    clock,
    isKnown: (name) => known.has(name),
    async remove(name, uid) {
      removed.push([name, uid]);
      pods.delete(name);
    },
  });
  return { clock, pods, known, removed, stop };
}

test('a pod that nobody knows is removed once it was seen for its time, and no sooner', async () => {
  const { clock, removed, stop } = sweep(pod('left'));
  await clock.advance(SWEEP_MS + UNWANTED_MS - 1);
  expect(removed).toEqual([]);
  await clock.advance(1);
  // Exactly the one that was seen: another of its name is left alone.
  expect(removed).toEqual([['left', 'uid of left']]);
  stop();
});

test('a pod that has ended is kept for as long, so that its end can be asked for', async () => {
  const swept = sweep(pod('ended', 'Failed'), pod('runs'));
  swept.known.add('ended').add('runs');
  await swept.clock.advance(SWEEP_MS + UNWANTED_MS - 1);
  expect(swept.removed).toEqual([]);
  await swept.clock.advance(1);
  expect(swept.removed).toEqual([['ended', 'uid of ended']]);
  await swept.clock.advance(10 * UNWANTED_MS);
  expect(swept.removed).toHaveLength(1);
  swept.stop();
});

test('a pod that becomes known in time stays, and one that is being deleted is left to the cluster', async () => {
  const going = pod('going', 'Running', { deletionTimestamp: '2026-01-01T00:00:00Z' });
  const swept = sweep(pod('made'), going);
  await swept.clock.advance(SWEEP_MS + UNWANTED_MS - 1);
  swept.known.add('made');
  await swept.clock.advance(10 * UNWANTED_MS);
  expect(swept.removed).toEqual([]);
  swept.stop();
});

test('a pod that was wanted in between has its whole time again', async () => {
  const swept = sweep(pod('twice'));
  await swept.clock.advance(UNWANTED_MS);
  swept.known.add('twice');
  await swept.clock.advance(SWEEP_MS);
  swept.known.delete('twice');
  await swept.clock.advance(UNWANTED_MS);
  expect(swept.removed).toEqual([]);
  await swept.clock.advance(SWEEP_MS);
  expect(swept.removed).toHaveLength(1);
  swept.stop();
});

test('nothing is removed after its end', async () => {
  const { clock, removed, stop } = sweep(pod('left'));
  await clock.advance(SWEEP_MS);
  stop();
  await clock.advance(10 * UNWANTED_MS);
  expect(removed).toEqual([]);
  expect(clock.pending).toBe(0);
});
