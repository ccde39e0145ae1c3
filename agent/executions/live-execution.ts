import type { StartBody } from '../../shared/messages.ts';
import type { Execution } from './port.ts';
import type { ExecutionRecord } from './registry.ts';

/** An execution that is under way: what was asked for, what is known of it, and how to end it. */
export type LiveExecution = {
  readonly start: StartBody;
  readonly record: ExecutionRecord;
  readonly arrivedMs: number;
  execution: Execution;
  acceptedMs: number | null;
  /** Resolves when it is over. */
  readonly over: PromiseWithResolvers<void>;
  /** Ends the wait for a sandbox. */
  readonly abort: AbortController;
};
