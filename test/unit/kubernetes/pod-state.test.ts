import { describe, expect, test } from 'vitest';
import type { ContainerState, Pod } from '../../../agent/backends/kubernetes/kube-objects.ts';
import { podState } from '../../../agent/backends/kubernetes/pod-state.ts';

function pod(status: NonNullable<Pod['status']>, state?: ContainerState): Pod {
  const containerStatuses = state === undefined ? [] : [{ name: 'sandbox', state }];
  return { metadata: { name: 'p' }, spec: { nodeName: 'node' }, status: { ...status, containerStatuses } };
}

describe('a pod that has not started', () => {
  const rows: [reason: string, code: string][] = [
    ['ErrImagePull', 'image_error'],
    ['ImagePullBackOff', 'image_error'],
    ['InvalidImageName', 'image_error'],
    ['ErrImageNeverPull', 'image_error'],
    ['CreateContainerConfigError', 'backend_unavailable'],
    ['CreateContainerError', 'backend_unavailable'],
    ['RunContainerError', 'backend_unavailable'],
  ];
  test.for(rows)('for %s has trouble %s', ([reason, code]) => {
    const state = podState(pod({ phase: 'Pending' }, { waiting: { reason, message: 'secret words' } }));
    expect(state).toMatchObject({ phase: 'pending', trouble: { code }, unschedulable: false });
    expect(state.phase === 'pending' && state.trouble?.message).not.toContain('secret words');
  });

  test.for(['ContainerCreating', 'PodInitializing', ''])('for %j has no trouble yet', (reason) => {
    expect(podState(pod({ phase: 'Pending' }, { waiting: { reason } }))).toEqual({
      phase: 'pending',
      trouble: null,
      unschedulable: false,
    });
  });

  test.for([
    ['that no node takes', 'Unschedulable', '0/3 nodes', /room/],
    ['that is held back', 'SchedulingGated', 'Scheduling is blocked', /gate/],
  ] as const)('%s is unschedulable, for as long as somebody waits', ([, reason, message, words]) => {
    const state = podState(
      pod({ phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', reason, message }] }),
    );
    expect(state).toMatchObject({ trouble: { code: 'unschedulable' }, unschedulable: true });
    expect(state.phase === 'pending' && state.trouble?.message).toMatch(words);
  });
});

test('a pod whose container runs is running', () => {
  expect(podState(pod({ phase: 'Running' }, { running: {} }))).toEqual({ phase: 'running' });
});

describe('a pod with a container before its own', () => {
  const behind = (state: ContainerState, status: NonNullable<Pod['status']>) =>
    podState(
      pod(
        { ...status, initContainerStatuses: [{ name: 'mesh-init', state }] },
        { waiting: { reason: 'PodInitializing' } },
      ),
    );

  test.for(['ErrImagePull', 'CreateContainerConfigError', 'CrashLoopBackOff'])(
    'that cannot be started for %s says so at once, and its name to the log',
    (reason) => {
      const state = behind({ waiting: { reason, message: 'why' } }, { phase: 'Pending' });
      expect(state).toMatchObject({ phase: 'pending', trouble: { code: 'backend_unavailable' } });
      const trouble = state.phase === 'pending' ? state.trouble : undefined;
      expect(trouble?.detail).toMatch(/before the sandbox fails/);
      expect(String(trouble?.cause)).toContain(`mesh-init: ${reason}: why`);
    },
  );

  test('that has failed is told from a sandbox that ended', () => {
    const state = behind({ terminated: { reason: 'Error', exitCode: 1 } }, { phase: 'Failed' });
    expect(state).toMatchObject({
      end: { why: 'not_startable', failure: { detail: expect.stringMatching(/before the sandbox/) } },
    });
  });

  test('that has succeeded, or was evicted meanwhile, is as any other', () => {
    const done = { terminated: { reason: 'Completed', exitCode: 0 } };
    expect(behind(done, { phase: 'Pending' })).toMatchObject({ phase: 'pending', trouble: null });
    const cut = { terminated: { reason: 'Error', exitCode: 137 } };
    expect(behind(cut, { phase: 'Failed', reason: 'Evicted' })).toMatchObject({ end: { why: 'evicted' } });
  });
});

describe('a pod that the cluster deletes for its own sake', () => {
  const target = (reason: string) => [{ type: 'DisruptionTarget', status: 'True', reason }];
  const going = { deletionTimestamp: 'now' };
  test.for([
    ['PreemptionByScheduler', /higher priority/],
    ['DeletionByTaintManager', /taint/],
    ['EvictionByEvictionAPI', /evicted/],
    ['DeletionByPodGC', /node is gone/],
  ] as const)('for %s says so, before and after its container has ended of it', ([reason, words]) => {
    for (const container of [{ running: {} }, { terminated: { exitCode: 137, reason: 'Error' } }]) {
      const state = podState({ ...pod({ conditions: target(reason) }, container), metadata: going });
      expect(state).toMatchObject({
        phase: 'ended',
        end: { why: 'evicted', failure: { code: 'sandbox_lost' } },
      });
      expect(state.phase === 'ended' && state.end.failure.detail).toMatch(words);
    }
  });

  test('runs on until it is deleted, and has used too much memory all the same', () => {
    const conditions = target('PreemptionByScheduler');
    expect(podState(pod({ conditions }, { running: {} }))).toEqual({ phase: 'running' });
    const full = { terminated: { exitCode: 137, reason: 'OOMKilled' } };
    expect(podState({ ...pod({ conditions }, full), metadata: going })).toMatchObject({
      end: { why: 'memory' },
    });
  });
});

describe('a pod that has ended', () => {
  const rows: [words: string, pod: Pod | undefined, why: string, code: string][] = [
    ['is gone', undefined, 'deleted', 'sandbox_lost'],
    [
      'is going',
      { ...pod({ phase: 'Running' }, { running: {} }), metadata: { deletionTimestamp: 'now' } },
      'deleted',
      'sandbox_lost',
    ],
    [
      'was killed for its memory',
      pod({ phase: 'Failed' }, { terminated: { reason: 'OOMKilled', exitCode: 137 } }),
      'memory',
      'sandbox_lost',
    ],
    [
      'was killed for its memory while it is deleted',
      {
        ...pod({ phase: 'Failed' }, { terminated: { reason: 'OOMKilled' } }),
        metadata: { deletionTimestamp: 'now' },
      },
      'memory',
      'sandbox_lost',
    ],
    [
      'was evicted',
      pod({ phase: 'Failed', reason: 'Evicted' }, { terminated: { reason: 'Error', exitCode: 137 } }),
      'evicted',
      'sandbox_lost',
    ],
    ['was evicted before it ran', pod({ phase: 'Failed', reason: 'Evicted' }), 'evicted', 'sandbox_lost'],
    ['was preempted', pod({ phase: 'Failed', reason: 'Preempting' }), 'evicted', 'sandbox_lost'],
    ['was too old', pod({ phase: 'Failed', reason: 'DeadlineExceeded' }), 'aged', 'sandbox_lost'],
    ['lost its node', pod({ phase: 'Failed', reason: 'NodeLost' }), 'node_lost', 'sandbox_lost'],
    ['lost its node quietly', pod({ phase: 'Unknown' }), 'node_lost', 'sandbox_lost'],
    ['saw its node shut down', pod({ phase: 'Failed', reason: 'Terminated' }), 'node_lost', 'sandbox_lost'],
    [
      'was refused by its node',
      pod({ phase: 'Failed', reason: 'OutOfcpu' }),
      'node_refused',
      'unschedulable',
    ],
    [
      'was refused by its node',
      pod({ phase: 'Failed', reason: 'UnexpectedAdmissionError' }),
      'node_refused',
      'unschedulable',
    ],
    [
      'has no interpreter',
      pod({ phase: 'Failed' }, { terminated: { reason: 'StartError', exitCode: 128 } }),
      'not_startable',
      'image_error',
    ],
    [
      'has a runner that ended',
      pod({ phase: 'Succeeded' }, { terminated: { reason: 'Completed', exitCode: 0 } }),
      'exited',
      'sandbox_lost',
    ],
  ];
  test.for(rows)('because it %s says so', ([, given, why, code]) => {
    expect(podState(given)).toMatchObject({ phase: 'ended', end: { why, failure: { code } } });
  });
});

test.for([
  null,
  'none',
  { containerStatuses: 'none', conditions: 7 },
  { containerStatuses: [null, 7, { name: 'sandbox', state: null }], conditions: [null] },
])('a status that no server gives is one that says nothing yet: %j', (status) => {
  const state = podState({ metadata: { name: 'p' }, status } as unknown as Pod);
  expect(state).toEqual({ phase: 'pending', trouble: null, unschedulable: false });
});
