import { Failure } from '../../../shared/errors.ts';
import type { Log } from '../../log.ts';

/** Half a file is whole a moment later: what is met again after so long is no passing thing. */
export const SETTLED_MS = 5_000;

/** What is told of a file that is followed. */
export type FollowLog = {
  failed(cause: unknown): void;
  succeeded(): void;
};

/** Says once what keeps a file from being read, when it has done so for a while. */
export function createFollowLog(log: Log): FollowLog {
  let met: { detail: string; atMs: number } | undefined;
  let said: string | undefined;
  return {
    failed(cause) {
      const detail = cause instanceof Failure ? cause.detail : String(cause);
      if (met?.detail !== detail) met = { detail, atMs: performance.now() };
      if (detail === said || performance.now() - met.atMs < SETTLED_MS) return;
      log('credential_not_followed', { detail: `${detail} What was read of it before is used on.` });
      said = detail;
    },
    succeeded() {
      if (said !== undefined) log('credential_followed_again', {});
      met = undefined;
      said = undefined;
    },
  };
}
