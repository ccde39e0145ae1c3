import type { Failure } from '../../shared/errors.ts';
import type { Wanted } from '../clusters/placement.ts';
import type { SessionOrder } from '../sessions/session-order.ts';
import type { ExecutionInput } from './execution-input.ts';
import type { KeyOrder } from './key-claim.ts';
import type { DocumentPlace } from './run-output.ts';

/** One execution as it was asked for: checked, its ceilings applied, its input found. */
export type ExecutionOrder = {
  wanted: Wanted;
  input: ExecutionInput;
  /** SHA-256 of the code, hex; it may still be being computed. */
  codeDigest: string | Promise<string>;
  requestId: string;
  traceparent: string | null;
  lastLineInteractive: boolean;
  timeoutMs: number;
  queueTimeoutMs: number;
  maxOutputBytes: number;
  memoryMb: number | null;
  cpuSeconds: number | null;
  outputLimitBytes: number | null;
  streamed: boolean;
  /** It goes on to its end when its caller goes away, and can be asked for afterwards. */
  survives: boolean;
  /** As `elapsed` counts. */
  receivedMs: number;
  /** A document of results is wanted: work of a session gives it in place of files. */
  document?: DocumentPlace | undefined;
  /** It opens a session, or runs in one. */
  session?: SessionOrder;
  /** Its `Idempotency-Key`: every agent of the cluster is asked before it begins. */
  key?: KeyOrder;
  /** Runs once when it is over: with what ended it otherwise than by its program, if it did. */
  onSettled?: (failure: Failure | null) => void;
  /** Gives the memory of the request back. */
  release(): void;
};
