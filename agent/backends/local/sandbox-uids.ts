import { Failure } from '../../../shared/errors.ts';

/** `nobody` and the UID that is no UID in 16 bits: others live there. */
const TAKEN: readonly number[] = [65_534, 65_535];

/** Hands out UIDs: Linux counts processes by UID, so no two sandboxes share one. */
export type SandboxUids = { take(): number; release(uid: number): void };

/** Those of a range, lowest first. `take` throws `at_capacity` when all are in use. */
export function createSandboxUids({ first, count }: { first: number; count: number }): SandboxUids {
  const used = new Set<number>(TAKEN);
  return {
    take() {
      let uid = first;
      while (used.has(uid)) uid += 1;
      if (uid >= first + count)
        throw new Failure('at_capacity', `All ${count} UIDs for local sandboxes are in use.`);
      used.add(uid);
      return uid;
    },
    release: (uid) => void (TAKEN.includes(uid) || used.delete(uid)),
  };
}
