import type { Log } from '../../log.ts';
import type { Asked } from './asked-pod.ts';
import { CONTAINER } from './pod-spec.ts';

/** Of a webhook that makes names up no more is said. */
const MAX_SAID = 100;

/** Says once which containers something in the cluster puts beside the sandbox: they share its network namespace. */
export function createOtherContainersLog(log: Log): (made: Asked) => void {
  const said = new Set(['[]']);
  return ({ spec }) => {
    const all = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
    const names = all.map(({ name }) => name).filter((name) => name !== CONTAINER);
    const found = JSON.stringify(names.sort());
    if (said.has(found) || said.size > MAX_SAID) return;
    said.add(found);
    log('other_containers', { containers: names });
  };
}
