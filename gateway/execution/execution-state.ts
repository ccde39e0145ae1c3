import { type ErrorCode, Failure, type Started } from '../../shared/errors.ts';
import { MAX_ATTEMPTS } from '../../shared/limits.ts';
import type { ExecutionResult, ExitBody } from '../../shared/messages.ts';
import { NO_AGENT_RETRY_MS } from '../clusters/placement.ts';
import { failureCode, isFinal, refusalCode } from './agent-codes.ts';
import type { ExecutionEvent } from './execution-event.ts';

/** How far user code may have come. */
type Underway = 'sent' | 'accepted' | 'started';

/** The life of one execution as the gateway sees it. */
export type ExecutionState = { attempts: number } & (
  | { at: 'queued' }
  /** It has a slot, and START has not gone out. */
  | { at: 'placed' }
  | { at: Underway }
  /** The link is lost; what the agent knows is being asked over another one. */
  | { at: 'recovering'; was: Exclude<Underway, 'started'> }
  /** The agent has it; its stream is being opened again over another link. */
  | { at: 'attaching'; was: Underway }
  | { at: 'over' }
);

export type ExecutionEffect =
  | { do: 'send' }
  /** Back to the front of the queue: nobody was free after all, or, with a failure, for this reason. */
  | { do: 'requeue'; failure?: Failure }
  /** To another instance, if there is one; else `nowhere_else` with this failure. */
  | { do: 'elsewhere'; failure: Failure }
  /** Ask over another link of the instance. */
  | { do: 'ask'; fence: boolean }
  /** Open a stream for it over another link, behind what has come. */
  | { do: 'attach' }
  | { do: 'open' }
  | { do: 'cancel'; reason: string }
  /** Reads no more; the execution goes on. */
  | { do: 'leave' }
  /** Over a link of the instance, as the stream is gone. */
  | { do: 'cancel_by_id'; reason: string }
  | { do: 'finish'; result: ExecutionResult }
  | { do: 'fail'; failure: Failure }
  /** The agent broke the protocol: its link closes, and `link_lost` follows. */
  | { do: 'fault' };

export type ExecutionStep = { state: ExecutionState; effects: readonly ExecutionEffect[] };

export const FIRST_EXECUTION_STATE: ExecutionState = { at: 'queued', attempts: 0 };

/** What `started` an execution in this state has, as far as the gateway can know. */
export function startedIn(state: ExecutionState): Started {
  const at = isUnlinked(state) ? state.was : state.at;
  if (at === 'started') return 'yes';
  return at === 'queued' || at === 'placed' || at === 'over' ? 'no' : 'unknown';
}

/** At most once: only what surely did not start, a NACK or a fence says so, is ever sent again. */
export function nextExecution(state: ExecutionState, event: ExecutionEvent): ExecutionStep {
  if (state.at === 'over') return { state, effects: [] };
  switch (event.type) {
    case 'placed':
      return step({ at: 'placed', attempts: state.attempts + 1 }, { do: 'send' });
    case 'sent':
      return step({ ...state, at: 'sent' });
    case 'accept':
      return accepted(state);
    case 'nack':
      return nacked(state, event);
    case 'started':
      return state.at === 'accepted' ? step({ ...state, at: 'started' }, { do: 'open' }) : fault(state);
    case 'exit':
      return exited(state, event.body);
    case 'link_lost':
      return lost(state);
    case 'told':
      return told(state, event.answer);
    case 'untold':
      return untold(state);
    case 'gap':
      return stopped(state, 'agent_lost', 'The link to the agent was lost, and part of the output with it.');
    case 'queue_over':
    case 'nowhere_else':
      return state.at === 'queued' ? over(state, { do: 'fail', failure: event.failure }) : step(state);
    case 'deadline':
      return late(state);
    case 'input_failed':
      return over(state, ...cancels(state, event.failure.code), { do: 'fail', failure: event.failure });
    case 'stop':
      return stopped(state, event.code, event.detail);
    case 'part': {
      const failure = new Failure('draining', event.detail, { started: startedIn(state) });
      const hasStream = !isUnsent(state) && !isUnlinked(state);
      return over(state, ...(hasStream ? [{ do: 'leave' } as const] : []), { do: 'fail', failure });
    }
  }
}

function accepted(state: Live): ExecutionStep {
  const { attempts } = state;
  if (state.at === 'sent') return step({ at: 'accepted', attempts });
  if (state.at !== 'attaching') return fault(state);
  return step({ at: state.was === 'started' ? 'started' : 'accepted', attempts });
}

function nacked(
  state: Live,
  { code, detail, retryAfterMs }: Extract<ExecutionEvent, { type: 'nack' }>,
): ExecutionStep {
  if (state.at === 'attaching') return unattached(state, code);
  if (state.at !== 'placed' && state.at !== 'sent' && state.at !== 'accepted') return fault(state);
  const failure = new Failure(refusalCode(code), detail, { retryAfterMs: retryAfterMs ?? 1_000 });
  if (isFinal(failure.code)) return over(state, { do: 'fail', failure });
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
  return state.at === 'started' ? over(state, { do: 'finish', result: body.result }) : fault(state);
}

function lost(state: Live): ExecutionStep {
  const { attempts } = state;
  if (isUnsent(state) || state.at === 'recovering') return step(state);
  if (state.at === 'attaching') return step(state, { do: 'attach' });
  if (state.at === 'started') return step({ at: 'attaching', was: 'started', attempts }, { do: 'attach' });
  return ask({ at: 'recovering', was: state.at, attempts });
}

/** Nothing may have begun yet: what the agent does not have, it must refuse from now on. */
function ask(state: Extract<ExecutionState, { at: 'recovering' }>): ExecutionStep {
  return step(state, { do: 'ask', fence: true });
}

/** The agent does not have it any more. It may have refused it in between: then it says so. */
function unattached(state: Extract<ExecutionState, { at: 'attaching' }>, code: string): ExecutionStep {
  const { was, attempts } = state;
  if (code === 'not_found' && was !== 'started') return ask({ at: 'recovering', was, attempts });
  return untold(state);
}

function told(
  state: Live,
  { state: known, record }: Extract<ExecutionEvent, { type: 'told' }>['answer'],
): ExecutionStep {
  if (state.at !== 'recovering') return step(state);
  const { attempts } = state;
  // Neither known nor refused: the agent had no room for the fence.
  if (known === 'unknown') return untold(state);
  if (known !== 'fenced') {
    const hasStarted = typeof record?.started_at_ms_ago === 'number';
    // STARTED was lost with the link; it is known all the same.
    const opens: ExecutionEffect[] = hasStarted ? [{ do: 'open' }] : [];
    return step({ at: 'attaching', was: hasStarted ? 'started' : 'accepted', attempts }, ...opens, {
      do: 'attach',
    });
  }
  const failure = new Failure('agent_lost', 'The link to the agent was lost before the code started.');
  if (attempts >= MAX_ATTEMPTS) return over(state, { do: 'fail', failure });
  const detail = 'The link to the agent was lost before the code started, and no sandbox was free in time.';
  const noAgent = new Failure('no_agent', detail, { retryAfterMs: NO_AGENT_RETRY_MS });
  return step({ at: 'queued', attempts }, { do: 'requeue', failure: noAgent });
}

function untold(state: Live): ExecutionStep {
  return isUnlinked(state) ? over(state, { do: 'fail', failure: lostFailure(state) }) : step(state);
}

/** The answer is due. Where the agent has not come back by then, that is why. */
function late(state: Live): ExecutionStep {
  if (!isUnlinked(state)) return stopped(state, 'deadline_exceeded', 'No answer came in time.');
  return over(state, ...cancels(state, 'deadline_exceeded'), { do: 'fail', failure: lostFailure(state) });
}

function lostFailure(state: Unlinked): Failure {
  const started = startedIn(state);
  return state.was === 'sent'
    ? new Failure('maybe_started', 'The link to the agent was lost; the code may or may not have run.', {
        started,
      })
    : new Failure('agent_lost', 'The agent was lost while it had the code.', { started });
}

function stopped(state: Live, code: ErrorCode, detail: string): ExecutionStep {
  const failure = new Failure(code, detail, { started: startedIn(state) });
  return over(state, ...cancels(state, code), { do: 'fail', failure });
}

function cancels(state: Live, reason: string): ExecutionEffect[] {
  if (isUnsent(state)) return [];
  return [isUnlinked(state) ? { do: 'cancel_by_id', reason } : { do: 'cancel', reason }];
}

function isUnsent(state: Live): state is Unsent {
  return state.at === 'queued' || state.at === 'placed';
}

function isUnlinked(state: ExecutionState): state is Unlinked {
  return state.at === 'recovering' || state.at === 'attaching';
}

type Live = Exclude<ExecutionState, { at: 'over' }>;
type Unsent = Extract<ExecutionState, { at: 'queued' | 'placed' }>;
type Unlinked = Extract<ExecutionState, { at: 'recovering' | 'attaching' }>;

function step(state: ExecutionState, ...effects: ExecutionEffect[]): ExecutionStep {
  return { state, effects };
}

function over(state: Live, ...effects: ExecutionEffect[]): ExecutionStep {
  return { state: { at: 'over', attempts: state.attempts }, effects };
}

function fault(state: Live): ExecutionStep {
  return { state, effects: [{ do: 'fault' }] };
}
