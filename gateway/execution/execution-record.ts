import type { ErrorCode, Started } from '../../shared/errors.ts';
import type { Outcome } from '../../shared/messages.ts';

/** One execution that is over, flat, as logs and metrics take it: never code, output or a key. */
export type ExecutionRecord = {
  /** Null where it never got as far as a link. */
  execution_id: string | null;
  request_id: string;
  traceparent: string | null;
  tenant: string;
  principal: string;
  /** `jti` of the key. */
  key_id: string;
  /** SHA-256 of the code, hex. */
  code_sha256: string;
  cluster: string | null;
  instance: string | null;
  template: string;
  language: string;
  streamed: boolean;
  /** How often it was offered to an instance. */
  attempts: number;
  /** How user code ended; null where Podgate refused or failed: then `code` says why. */
  outcome: Outcome | null;
  code: ErrorCode | null;
  started: Started;
  bytes_in: number;
  files_in: number;
  stdout_bytes: number;
  stderr_bytes: number;
  files_out: number;
  file_bytes_out: number;
  received_at_ms: number;
  /** Phases; null where it never entered them. */
  queue_ms: number | null;
  accept_ms: number | null;
  start_ms: number | null;
  run_ms: number | null;
  total_ms: number;
  /** The program's own time and use, as the agent measured them. */
  duration_ms: number | null;
  cpu_ms: number | null;
  peak_memory_bytes: number | null;
};
