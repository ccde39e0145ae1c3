import { FIRST_SANDBOX_UID } from '../sandbox-uid.ts';

/** `nobody` and the UID that is no UID in 16 bits: others live there. */
const TAKEN: readonly number[] = [65_534, 65_535];

/** Hands out UIDs: Linux counts processes by UID, so no two sandboxes share one. */
export type SandboxUids = { take(): number; release(uid: number): void };

export function createSandboxUids(): SandboxUids {
  const used = new Set<number>(TAKEN);
  return {
    take() {
      let uid = FIRST_SANDBOX_UID;
      while (used.has(uid)) uid += 1;
      used.add(uid);
      return uid;
    },
    release: (uid) => void (TAKEN.includes(uid) || used.delete(uid)),
  };
}
