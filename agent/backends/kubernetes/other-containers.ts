import type { Log } from '../../log.ts';
import type { Asked } from './asked-pod.ts';
import { CONTAINER } from './pod-spec.ts';

/** Says once which containers something in the cluster puts beside the sandbox: they share its network namespace. */
export function createOtherContainersLog(log: Log): (made: Asked) => void {
  let said = '[]';
  return ({ spec }) => {
    const all = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
    const names = all.map(({ name }) => name).filter((name) => name !== CONTAINER);
    const found = JSON.stringify(names.sort());
    if (found !== said) log('other_containers', { containers: names });
    said = found;
  };
}
