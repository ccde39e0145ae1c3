import { Failure, troubleForCallers } from '../../shared/errors.ts';
import type { StartBody } from '../../shared/messages.ts';
import type { SessionWork } from '../../shared/session-messages.ts';
import type { Clock } from '../clock.ts';
import { createDeadline } from '../deadline.ts';
import type { Loan } from '../pool/lending.ts';
import type { Sessions } from '../sessions/sessions.ts';
import type { Admission } from './admission.ts';
import type { LiveExecution } from './live-execution.ts';
import type { WaitingRoom } from './waiting-room.ts';

/** The longest that one START may wait for a sandbox, whatever it asks for. */
export const MAX_ACCEPT_WITHIN_MS = 600_000;

export type SandboxWaitDeps = { clock: Clock; sessions: Sessions; room: WaitingRoom };

/** A free sandbox, within the time that START gives. Rejects with what the execution is to be refused with. */
export async function waitForSandbox(
  { clock, room }: SandboxWaitDeps,
  { start: { principal, accept_within_ms }, abort }: Pick<LiveExecution, 'start' | 'abort'>,
  { pool, inputBytes }: Pick<Admission, 'pool' | 'inputBytes'>,
  link: object,
): Promise<Loan> {
  const late = () => {
    const full = { code: 'at_capacity', detail: 'No sandbox was free in time.' } as const;
    return troubleForCallers(pool.trouble ?? full, { retryAfterMs: 1_000 });
  };
  using _place = room.enter(link, inputBytes);
  using deadline = createDeadline(clock, boundedMs(accept_within_ms), late, abort.signal);
  try {
    return await pool.wait(principal, deadline.signal);
  } catch (error) {
    throw error instanceof Failure ? error : late();
  }
}

/** The session that START names. `kill` ends the execution with it. */
export async function waitForSession(
  { sessions }: SandboxWaitDeps,
  start: StartBody,
  signal: AbortSignal,
  kill: (failure: Failure) => void,
): Promise<Loan> {
  const session = sessions.find(start);
  const { session: work, execution_id, accept_within_ms } = start;
  return session.lend(work as SessionWork, execution_id, boundedMs(accept_within_ms), signal, kill);
}

function boundedMs(acceptWithinMs: number): number {
  return Math.min(acceptWithinMs, MAX_ACCEPT_WITHIN_MS);
}
