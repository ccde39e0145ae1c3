import type { ExecutionReport } from './executions/execution-report.ts';
import type { Log } from './log.ts';
import type { SessionReport } from './sessions/session-report.ts';

/** The one line that an execution leaves in the log, with the durations of its phases in ms. Never code, output or keys. */
export function logReport(log: Log, report: ExecutionReport): void {
  const { start, outcome, refused, started, sandboxId, settled, outputBytes, cause } = report;
  log(refused ? 'execution_refused' : 'execution', {
    execution_id: start.execution_id,
    request_id: start.request_id,
    traceparent: start.traceparent,
    tenant: start.tenant,
    principal: start.principal,
    cluster: start.cluster,
    template: start.template,
    language: start.language,
    ...(start.session && { session_work: start.session.do, session_id: start.session.id }),
    outcome,
    started,
    sandbox: sandboxId,
    sandbox_settled: settled,
    output_bytes: outputBytes,
    accept_ms: rounded(report.acceptMs),
    start_ms: rounded(report.startMs),
    run_ms: rounded(report.runMs),
    reset_ms: rounded(report.resetMs),
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The two lines of a session: when it begins, and when it has ended and its sandbox goes. */
export function logSession(
  log: Log,
  { start, sessionId, sandboxId, ttlMs, idleMs, end }: SessionReport,
): void {
  log(end ? 'session_ended' : 'session_began', {
    session_id: sessionId,
    request_id: start.request_id,
    tenant: start.tenant,
    principal: start.principal,
    cluster: start.cluster,
    template: start.template,
    sandbox: sandboxId,
    ...(end ? { why: end.why, lived_ms: end.livedMs, works: end.works } : { ttl_ms: ttlMs, idle_ms: idleMs }),
  });
}

/** Microseconds are noise below the third digit. */
function rounded(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms * 1_000) / 1_000;
}
