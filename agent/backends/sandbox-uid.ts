/** The first UID that sandboxes have, whatever makes them. */
export const FIRST_SANDBOX_UID = 65_532;
export const SANDBOX_UIDS = 1_000_000_000;

/** RLIMIT_NPROC counts a UID's processes on the whole machine: each sandbox draws its own. `random` is 0 ≤ n < 1. */
export function drawSandboxUid(random: () => number): number {
  return FIRST_SANDBOX_UID + Math.floor(random() * SANDBOX_UIDS);
}
