import type { StartBody } from '../../shared/messages.ts';

/** Why a session ended. */
export type SessionEnd = 'expired' | 'idle' | 'deleted' | 'lost' | 'draining';

/** One session, told when it begins and once its sandbox is on its way out. */
export type SessionReport = {
  /** Of the execution that opened it. */
  readonly start: StartBody;
  readonly sessionId: string;
  readonly sandboxId: string;
  readonly ttlMs: number;
  readonly idleMs: number | null;
  /** Null when it begins. */
  readonly end: { readonly why: SessionEnd; readonly livedMs: number; readonly works: number } | null;
};

/** What whoever has work in it is told. */
export const ENDINGS: Record<SessionEnd, string> = {
  idle: 'The session ended: nothing ran in it for too long.',
  expired: 'The session ended: its time was over.',
  deleted: 'The session was ended by its owner.',
  lost: 'The sandbox of the session was lost.',
  draining: 'The agent was shut down, and the session with it.',
};
