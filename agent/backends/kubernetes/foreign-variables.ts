import { Failure } from '../../../shared/errors.ts';
import type { Log } from '../../log.ts';
import { type Asked, sandboxContainer } from './asked-pod.ts';
import { changedByCluster } from './changed-pod.ts';

/** Of all that pods of one cluster were ever given. */
export const MAX_FOREIGN_VARIABLES = 100;
const MAX_NAME_CHARS = 256;
/** The first pod is given variables that nobody knew of; a second that is given others meets a webhook that makes them up. */
const TRIES = 3;

/**
 * Variables that something in the cluster puts into sandboxes. A runner is told in its command which it is to drop, and that
 * is made before the cluster says what it adds: so the first pod that is given one is removed, and another is made.
 */
export type ForeignVariables = {
  /** What runners are told to drop. */
  readonly names: readonly string[];
  /** Throws where a pod was given one that its runner, told of `names`, would hand to user code. */
  require(asked: Asked, made: Asked, names: readonly string[]): void;
  /** Again, for as long as that is why `make` fails. */
  dropped<T>(make: () => Promise<T>): Promise<T>;
};

class Undropped extends Failure {}

export function createForeignVariables(log: Log): ForeignVariables {
  const known = new Set<string>();

  function learn(names: readonly string[]): void {
    const before = known.size;
    for (const name of names) {
      if (name.length > MAX_NAME_CHARS || known.size >= MAX_FOREIGN_VARIABLES)
        throw changedByCluster('adds too many variables to the environment of');
      known.add(name);
    }
    if (known.size > before) log('variables_dropped', { names: [...known].sort() });
  }

  return {
    get names() {
      return [...known];
    },
    require(asked, made, told) {
      const expected = new Set([...told, ...variablesOf(asked)]);
      const others = variablesOf(made).filter((name) => !expected.has(name));
      if (others.length === 0) return;
      learn(others);
      const { code, detail } = changedByCluster('adds ever other variables to the environment of');
      throw new Undropped(code, detail);
    },
    async dropped(make) {
      for (let tries = 1; ; tries += 1) {
        try {
          return await make();
        } catch (cause) {
          if (!(cause instanceof Undropped) || tries >= TRIES) throw cause;
        }
      }
    },
  };
}

function variablesOf(pod: Asked): string[] {
  return (sandboxContainer(pod)?.env ?? []).map(({ name }) => name);
}
