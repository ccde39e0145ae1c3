import { type ErrorCode, Failure, type Started } from '../../shared/errors.ts';
import type { ExecutionResult } from '../../shared/messages.ts';
import { failureCode, refusalCode } from './agent-codes.ts';
import type { ExecutionEvent } from './execution-event.ts';

/** An execution that an agent has, as one sees it who came to read it later. */
export type FollowState =
  /** Its stream is being opened, for the first time or again. */
  { at: 'attaching'; started: boolean } | { at: 'attached'; started: boolean } | { at: 'over' };

export type FollowEffect =
  | { do: 'attach' }
  /** There is such an execution: its reader may be answered. */
  | { do: 'open' }
  | { do: 'finish'; result: ExecutionResult }
  | { do: 'fail'; failure: Failure }
  /** Reads no more; the execution goes on. */
  | { do: 'leave' }
  | { do: 'fault' };

export type FollowStep = { state: FollowState; effects: readonly FollowEffect[] };

export const FIRST_FOLLOW_STATE: FollowState = { at: 'attaching', started: false };

/** Whoever follows ends nothing: whatever goes wrong on the way is its own loss. */
export function nextFollow(state: FollowState, event: ExecutionEvent): FollowStep {
  if (state.at === 'over') return { state, effects: [] };
  const { started } = state;
  switch (event.type) {
    case 'accept':
      return state.at === 'attaching' ? step({ at: 'attached', started }, { do: 'open' }) : fault(state);
    case 'started':
      return state.at === 'attached' ? step({ at: 'attached', started: true }) : fault(state);
    case 'nack':
      return over({ do: 'fail', failure: refusal(state, event) });
    case 'exit':
      if (state.at !== 'attached') return fault(state);
      if (event.body.failure) {
        const { code, detail } = event.body.failure;
        const so: Started = started ? 'yes' : event.body.failure.started;
        return over({ do: 'fail', failure: new Failure(failureCode(code), detail, { started: so }) });
      }
      return started ? over({ do: 'finish', result: event.body.result }) : fault(state);
    case 'link_lost':
      return step({ at: 'attaching', started }, { do: 'attach' });
    case 'untold':
      return over({ do: 'fail', failure: failed(state, 'agent_lost', 'The agent was lost.') });
    case 'stop':
      return over({ do: 'leave' }, { do: 'fail', failure: failed(state, event.code, event.detail) });
    default:
      return fault(state);
  }
}

function refusal(
  state: Live,
  { code, detail, retryAfterMs }: Extract<ExecutionEvent, { type: 'nack' }>,
): Failure {
  const retry = { retryAfterMs: retryAfterMs ?? 1_000 };
  if (state.at === 'attached') return new Failure(refusalCode(code), detail, retry);
  if (code === 'not_found') return new Failure('not_found', 'There is no such execution any more.');
  if (code === 'rate_limited') return new Failure('rate_limited', detail, retry);
  if (code !== 'invalid_request') return failed(state, 'agent_lost', 'The agent did not tell.');
  const message = 'Last-Event-ID is beyond what this execution has said.';
  return new Failure('invalid_request', message, { errors: [{ path: 'Last-Event-ID', message }] });
}

function failed({ started }: Live, code: ErrorCode, detail: string): Failure {
  return new Failure(code, detail, { started: started ? 'yes' : 'unknown' });
}

type Live = Exclude<FollowState, { at: 'over' }>;

function step(state: FollowState, ...effects: FollowEffect[]): FollowStep {
  return { state, effects };
}

function over(...effects: FollowEffect[]): FollowStep {
  return { state: { at: 'over' }, effects };
}

function fault(state: Live): FollowStep {
  return { state, effects: [{ do: 'fault' }] };
}
