import { Failure } from '../../shared/errors.ts';
import type { Log } from '../log.ts';
import { type Finding, worst } from './findings.ts';

/** What the canaries of one template came to, said once per change. */
export type CanaryLog = {
  /** One came to its end: every promise that does not hold or is not known. */
  checked(findings: readonly Finding[]): void;
  /** One came to none. Returns what is said of it. */
  failed(cause: unknown): string;
};

export function createCanaryLog(log: Log, template: string): CanaryLog {
  let logged: string | undefined;

  return {
    checked(findings) {
      const said = findings
        .filter(({ state }) => state !== 'holds')
        .map((each) => `${each.name}: ${each.state}`)
        .join(', ');
      if (said === logged) return;
      logged = said;
      const named = (state: Finding['state']) => findings.filter((each) => each.state === state);
      log('isolation_checked', {
        template,
        state: worst(findings),
        holds: named('holds').length,
        broken: named('broken').map((each) => `${each.name}: ${each.detail}`),
        unknown: named('unknown').map((each) => `${each.name}: ${each.detail}`),
      });
    },
    failed(cause) {
      const detail = cause instanceof Failure ? cause.detail : 'The canary failed.';
      if (logged !== detail) log('canary_failed', { template, detail, cause });
      logged = detail;
      return detail;
    },
  };
}
