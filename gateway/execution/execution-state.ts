import { type ErrorCode, Failure, isErrorCode, type Started } from '../../shared/errors.ts';
import { MAX_ATTEMPTS } from '../../shared/limits.ts';
import type { ExitBody, FromAgent } from '../../shared/messages.ts';

/** How far user code may have come. */
type Underway = 'sent' | 'accepted' | 'started';

/** The life of one execution as the gateway sees it. */
export type ExecutionState = { attempts: number } & (
  | { at: 'queued' }
  | { at: Underway }
  /** The link is lost; what the agent knows is being asked over another one. */
  | { at: 'recovering'; was: Underway }
  | { at: 'over' }
);

export type StopCode = 'cancelled' | 'unauthorized' | 'reader_stalled' | 'draining' | 'at_capacity';

export type ExecutionEvent =
  /** A slot was taken for it: START goes out. */
  | { type: 'placed' }
  | { type: 'accept' }
  | { type: 'nack'; code: string; detail: string; retryAfterMs: number | null }
  | { type: 'started' }
  | { type: 'data' }
  | { type: 'exit'; body: ExitBody }
  | { type: 'link_lost' }
  | { type: 'told'; answer: Pick<FromAgent['STATUS'], 'state' | 'record'> }
  | { type: 'untold' }
  /** No slot within the queue timeout. */
  | { type: 'queue_over'; failure: Failure }
  /** Nobody else could take what was refused. */
  | { type: 'nowhere_else'; failure: Failure }
  | { type: 'deadline' }
  /** Input could not be read or sent. */
  | { type: 'input_failed'; failure: Failure }
  | { type: 'stop'; code: StopCode; detail: string };

export type ExecutionEffect =
  | { do: 'send' }
  /** Back to the front of the queue: nobody was free after all. */
  | { do: 'requeue' }
  /** To another instance, if there is one; else `nowhere_else` with this failure. */
  | { do: 'elsewhere'; failure: Failure }
  /** Ask over another link of the instance. */
  | { do: 'ask'; fence: boolean }
  | { do: 'open' }
  | { do: 'cancel'; reason: string }
  /** Over a link of the instance, as the stream is gone. */
  | { do: 'cancel_by_id'; reason: string }
  | { do: 'finish'; body: ExitBody }
  | { do: 'fail'; failure: Failure }
  /** The agent broke the protocol: its link closes, and `link_lost` follows. */
  | { do: 'fault' };

export type ExecutionStep = { state: ExecutionState; effects: readonly ExecutionEffect[] };

export const FIRST_EXECUTION_STATE: ExecutionState = { at: 'queued', attempts: 0 };

/** What `started` an execution in this state has, as far as the gateway can know. */
export function startedIn(state: ExecutionState): Started {
  const at = state.at === 'recovering' ? state.was : state.at;
  if (at === 'started') return 'yes';
  return at === 'queued' || at === 'over' ? 'no' : 'unknown';
}

/** At most once: only what surely did not start, a NACK or a fence says so, is ever sent again. */
export function nextExecution(state: ExecutionState, event: ExecutionEvent): ExecutionStep {
  if (state.at === 'over') return { state, effects: [] };
  switch (event.type) {
    case 'placed':
      return step({ at: 'sent', attempts: state.attempts + 1 }, { do: 'send' });
    case 'accept':
      return state.at === 'sent' ? step({ ...state, at: 'accepted' }) : fault(state);
    case 'nack':
      return nacked(state, event);
    case 'started':
      return state.at === 'accepted' ? step({ ...state, at: 'started' }, { do: 'open' }) : fault(state);
    case 'data':
      return state.at === 'started' ? step(state) : fault(state);
    case 'exit':
      return exited(state, event.body);
    case 'link_lost':
      return lost(state);
    case 'told':
      return told(state, event.answer);
    case 'untold':
      return untold(state);
    case 'queue_over':
    case 'nowhere_else':
      return state.at === 'queued' ? over(state, { do: 'fail', failure: event.failure }) : step(state);
    case 'deadline':
      return stopped(state, 'deadline_exceeded', 'No answer came in time.');
    case 'input_failed':
      return over(state, ...cancels(state, event.failure.code), { do: 'fail', failure: event.failure });
    case 'stop':
      return stopped(state, event.code, event.detail);
  }
}

function nacked(
  state: Live,
  { code, detail, retryAfterMs }: Extract<ExecutionEvent, { type: 'nack' }>,
): ExecutionStep {
  if (state.at !== 'sent' && state.at !== 'accepted') return fault(state);
  const failure = new Failure(refusalCode(code), detail, { retryAfterMs: retryAfterMs ?? 1_000 });
  if (AT_ONCE.has(failure.code)) return over(state, { do: 'fail', failure });
  // Nobody's fault, and bounded by the queue's timeout: it does not count as an attempt.
  if (failure.code === 'at_capacity' || failure.code === 'draining')
    return step({ at: 'queued', attempts: state.attempts - 1 }, { do: 'requeue' });
  if (state.attempts >= MAX_ATTEMPTS) return over(state, { do: 'fail', failure });
  return step({ at: 'queued', attempts: state.attempts }, { do: 'elsewhere', failure });
}

function exited(state: Live, body: ExitBody): ExecutionStep {
  if (state.at !== 'started' && state.at !== 'accepted') return fault(state);
  if (body.failure) {
    const { code, detail, started } = body.failure;
    const seen = state.at === 'started' ? 'yes' : started;
    return over(state, { do: 'fail', failure: new Failure(failureCode(code), detail, { started: seen }) });
  }
  // A result without STARTED: something ran that the agent did not tell.
  return state.at === 'started' ? over(state, { do: 'finish', body }) : fault(state);
}

function lost(state: Live): ExecutionStep {
  if (state.at === 'queued' || state.at === 'recovering') return step(state);
  return step(
    { at: 'recovering', was: state.at, attempts: state.attempts },
    { do: 'ask', fence: state.at === 'sent' },
  );
}

function told(
  state: Live,
  { state: known, record }: Pick<FromAgent['STATUS'], 'state' | 'record'>,
): ExecutionStep {
  if (state.at !== 'recovering') return step(state);
  if (state.was === 'sent' && known === 'fenced') {
    const failure = new Failure('agent_lost', 'The link to the agent was lost before the code started.');
    if (state.attempts >= MAX_ATTEMPTS) return over(state, { do: 'fail', failure });
    return step({ at: 'queued', attempts: state.attempts }, { do: 'requeue' });
  }
  // Neither known nor refused: the agent had no room for the fence.
  if (state.was === 'sent' && known === 'unknown') return untold(state);
  const started = startedBy(state, known, record);
  const detail = 'The link to the agent was lost, and the output with it.';
  return over(
    state,
    ...(known === 'accepted' || known === 'started'
      ? [{ do: 'cancel_by_id', reason: 'link_lost' } as const]
      : []),
    { do: 'fail', failure: new Failure('agent_lost', detail, { started }) },
  );
}

function startedBy(
  state: Live,
  known: FromAgent['STATUS']['state'],
  record: FromAgent['STATUS']['record'],
): Started {
  if (startedIn(state) === 'yes' || known === 'started' || typeof record?.started_at_ms_ago === 'number')
    return 'yes';
  if (known === 'ended' && record?.exit) return record.exit.failure ? record.exit.failure.started : 'yes';
  return 'unknown';
}

function untold(state: Live): ExecutionStep {
  if (state.at !== 'recovering') return step(state);
  const started = startedIn(state);
  const failure =
    state.was === 'sent'
      ? new Failure('maybe_started', 'The link to the agent was lost; the code may or may not have run.', {
          started: 'unknown',
        })
      : new Failure('agent_lost', 'The agent was lost while it had the code.', { started });
  return over(state, { do: 'fail', failure });
}

function stopped(state: Live, code: ErrorCode, detail: string): ExecutionStep {
  const failure = new Failure(code, detail, { started: startedIn(state) });
  return over(state, ...cancels(state, code), { do: 'fail', failure });
}

function cancels(state: Live, reason: string): ExecutionEffect[] {
  if (state.at === 'queued') return [];
  return [state.at === 'recovering' ? { do: 'cancel_by_id', reason } : { do: 'cancel', reason }];
}

type Live = Exclude<ExecutionState, { at: 'over' }>;

function step(state: ExecutionState, ...effects: ExecutionEffect[]): ExecutionStep {
  return { state, effects };
}

function over(state: Live, ...effects: ExecutionEffect[]): ExecutionStep {
  return { state: { at: 'over', attempts: state.attempts }, effects };
}

function fault(state: Live): ExecutionStep {
  return { state, effects: [{ do: 'fault' }] };
}

/**
 * Refusals that another instance would repeat, since they are about the request; or that it should: a share that is
 * used up at one instance must not be found again at the next.
 */
const AT_ONCE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'rate_limited',
  'stage_failed',
  'too_large',
  'duplicate',
  'busy',
]);
/** Codes that an agent may refuse an execution with; others are its mistake, not the caller's. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'policy_denied',
  'no_template',
  'no_language',
  'duplicate',
  'busy',
  'rate_limited',
  'sandbox_lost',
  'runner_error',
  'stage_failed',
  'too_large',
  'at_capacity',
  'image_error',
  'quota_exceeded',
  'unschedulable',
  'backend_unavailable',
  'isolation_failed',
  'draining',
]);
const FAILURES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'sandbox_lost',
  'runner_error',
  'stage_failed',
  'agent_lost',
  'cancelled',
  'draining',
  'deadline_exceeded',
  'reader_stalled',
  'policy_denied',
  'too_large',
  'backend_unavailable',
  'image_error',
]);

function refusalCode(code: string): ErrorCode {
  return isErrorCode(code) && REFUSALS.has(code) ? code : 'backend_unavailable';
}

function failureCode(code: string): ErrorCode {
  return isErrorCode(code) && FAILURES.has(code) ? code : 'runner_error';
}
