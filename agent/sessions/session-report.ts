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
