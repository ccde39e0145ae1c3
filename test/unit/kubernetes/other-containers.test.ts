import { expect, test, vi } from 'vitest';
import { createOtherContainersLog } from '../../../agent/backends/kubernetes/other-containers.ts';
import { CONTAINER } from '../../../agent/backends/kubernetes/pod-spec.ts';

const podWith = (...names: string[]) => ({
  spec: { containers: [CONTAINER, ...names].map((name) => ({ name })) },
});

test('containers beside a sandbox are said once, also where pods have them by turns', () => {
  const log = vi.fn();
  const tell = createOtherContainersLog(log);
  for (const pod of [podWith(), podWith('mesh'), podWith(), podWith('apm'), podWith('mesh')]) tell(pod);
  expect(log.mock.calls).toEqual([
    ['other_containers', { containers: ['mesh'] }],
    ['other_containers', { containers: ['apm'] }],
  ]);
});

test('containers whose names are ever new are said no more after a hundred', () => {
  const log = vi.fn();
  const tell = createOtherContainersLog(log);
  for (let n = 0; n < 150; n += 1) tell(podWith(`mesh-${n}`));
  expect(log).toHaveBeenCalledTimes(100);
});
