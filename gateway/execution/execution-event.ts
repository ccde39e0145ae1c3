import type { Failure } from '../../shared/errors.ts';
import type { ExitBody, FromAgent } from '../../shared/messages.ts';

/** Why an execution is ended from outside. */
export type StopCode =
  | 'cancelled'
  | 'unauthorized'
  | 'reader_stalled'
  | 'draining'
  | 'at_capacity'
  | 'deadline_exceeded';

/** What happens to one execution, to whoever runs it and whoever follows it. */
export type ExecutionEvent =
  /** A slot was taken for it. */
  | { type: 'placed' }
  /** START is handed to the link. */
  | { type: 'sent' }
  | { type: 'accept' }
  | { type: 'nack'; code: string; detail: string; retryAfterMs: number | null }
  | { type: 'started' }
  | { type: 'exit'; body: ExitBody }
  | { type: 'link_lost' }
  | { type: 'told'; answer: Pick<FromAgent['STATUS'], 'state' | 'record'> }
  | { type: 'untold' }
  /** Bytes are lost that nobody has seen. */
  | { type: 'gap' }
  /** No slot within the queue timeout. */
  | { type: 'queue_over'; failure: Failure }
  /** Nobody else could take what was refused. */
  | { type: 'nowhere_else'; failure: Failure }
  | { type: 'deadline' }
  /** Input could not be read or sent. */
  | { type: 'input_failed'; failure: Failure }
  | { type: 'stop'; code: StopCode; detail: string }
  /** This gateway goes; the agent may go on with it. */
  | { type: 'part'; detail: string };
