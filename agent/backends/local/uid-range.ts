import { createServer } from 'node:net';
import { Failure } from '../../../shared/errors.ts';
import { FIRST_SANDBOX_UID } from '../sandbox-uid.ts';

/** UIDs that one agent's sandboxes have at most, and agents on one machine. */
export const UIDS_PER_AGENT = 65_536;
export const MAX_UID_RANGES = 1_024;

/** A range of UIDs that no other agent of this machine hands out. */
export type UidRange = { readonly first: number; readonly count: number; release(): Promise<void> };

/**
 * Takes the lowest range that is free, for Linux counts processes by UID and not by agent. A range is held by a name in
 * the abstract socket namespace: one process has it at a time, and the kernel frees it however that one ends. Agents
 * that share UIDs but no network namespace do not see each other. Rejects with `backend_unavailable`.
 */
export async function takeUidRange(): Promise<UidRange> {
  for (let index = 0; index < MAX_UID_RANGES; index += 1) {
    const release = await takeName(`\0podgate-sandbox-uids-${index}`);
    const first = FIRST_SANDBOX_UID + index * UIDS_PER_AGENT;
    if (release) return { first, count: UIDS_PER_AGENT, release };
  }
  throw new Failure(
    'backend_unavailable',
    `All ${MAX_UID_RANGES} ranges of sandbox UIDs are taken by other processes of this machine.`,
  );
}

/** Undefined where somebody has it. */
function takeName(name: string): Promise<(() => Promise<void>) | undefined> {
  const server = createServer((socket) => socket.destroy());
  server.unref();
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen(name, () => resolve(() => new Promise((done) => server.close(() => done()))));
  });
}
