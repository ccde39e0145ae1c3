import { describe, expect, test } from 'vitest';
import { failureCode, refusalCode } from '../../gateway/execution/agent-codes.ts';
import type { ExecutionEvent } from '../../gateway/execution/execution-event.ts';
import { type ExecutionState, nextExecution, startedIn } from '../../gateway/execution/execution-state.ts';
import { Failure } from '../../shared/errors.ts';
import { MAX_ATTEMPTS } from '../../shared/limits.ts';
import { RESULT } from '../fakes/mock-agent.ts';

const failure = new Failure('at_capacity', 'All taken.');
const record = { accepted_at_ms_ago: 9, started_at_ms_ago: null, ended_at_ms_ago: null, exit: null };
const nack = (code: string): ExecutionEvent => ({ type: 'nack', code, detail: 'No.', retryAfterMs: null });
const told = (
  state: 'unknown' | 'fenced' | 'accepted' | 'started' | 'ended',
  more: object = {},
): ExecutionEvent => ({
  type: 'told',
  answer: { state, record: ['unknown', 'fenced'].includes(state) ? null : { ...record, ...more } },
});
const exit: ExecutionEvent = { type: 'exit', body: { result: RESULT, failure: null } };
const failed = (started: 'yes' | 'no' | 'unknown'): ExecutionEvent => ({
  type: 'exit',
  body: { result: null, failure: { code: 'runner_error', detail: 'It broke.', started } },
});

const at = (where: 'queued' | 'placed' | 'sent' | 'accepted' | 'started', attempts = 1): ExecutionState => ({
  at: where,
  attempts: where === 'queued' ? attempts - 1 : attempts,
});
const attaching = (was: 'sent' | 'accepted' | 'started', attempts = 1): ExecutionState => ({
  at: 'attaching',
  was,
  attempts,
});
const recovering = (was: 'sent' | 'accepted', attempts = 1): ExecutionState => ({
  at: 'recovering',
  was,
  attempts,
});

/** `finish`, `fail agent_lost yes`, … : an effect in words. */
function words(state: ExecutionState, event: ExecutionEvent): string[] {
  return nextExecution(state, event).effects.map((effect) => {
    if (effect.do === 'fail') return `fail ${effect.failure.code} ${effect.failure.started}`;
    if (effect.do === 'requeue' && effect.failure) return `requeue ${effect.failure.code}`;
    if (effect.do === 'ask') return `ask ${effect.fence ? 'with fence' : 'without'}`;
    if ('reason' in effect) return `${effect.do} ${effect.reason}`;
    return effect.do;
  });
}

describe('an execution', () => {
  test.for<[ExecutionState, ExecutionEvent, string, string[]]>([
    [at('queued'), { type: 'placed' }, 'placed', ['send']],
    [at('placed'), { type: 'sent' }, 'sent', []],
    [at('sent'), { type: 'accept' }, 'accepted', []],
    [at('accepted'), { type: 'started' }, 'started', ['open']],
    [at('started'), exit, 'over', ['finish']],
    // What an agent must not do.
    [at('accepted'), { type: 'accept' }, 'accepted', ['fault']],
    [at('placed'), { type: 'accept' }, 'placed', ['fault']],
    [at('sent'), { type: 'started' }, 'sent', ['fault']],
    [at('started'), { type: 'started' }, 'started', ['fault']],
    [at('sent'), exit, 'sent', ['fault']],
    [at('accepted'), exit, 'accepted', ['fault']],
    [at('started'), nack('busy'), 'started', ['fault']],
    // What the agent says of a failure, and what was seen.
    [at('accepted'), failed('no'), 'over', ['fail runner_error no']],
    [at('accepted'), failed('unknown'), 'over', ['fail runner_error unknown']],
    [at('started'), failed('no'), 'over', ['fail runner_error yes']],
    // NACK.
    [at('sent'), nack('sandbox_lost'), 'queued', ['elsewhere']],
    [at('accepted'), nack('sandbox_lost'), 'queued', ['elsewhere']],
    [at('sent', MAX_ATTEMPTS), nack('sandbox_lost'), 'over', ['fail sandbox_lost no']],
    [at('sent'), nack('at_capacity'), 'queued', ['requeue']],
    [at('sent', MAX_ATTEMPTS), nack('draining'), 'queued', ['requeue']],
    [at('placed', MAX_ATTEMPTS), nack('draining'), 'queued', ['requeue']],
    [at('sent'), nack('rate_limited'), 'over', ['fail rate_limited no']],
    [at('sent'), nack('stage_failed'), 'over', ['fail stage_failed no']],
    // A link that is lost.
    [at('sent'), { type: 'link_lost' }, 'recovering', ['ask with fence']],
    [at('accepted'), { type: 'link_lost' }, 'recovering', ['ask with fence']],
    [at('started'), { type: 'link_lost' }, 'attaching', ['attach']],
    [at('queued'), { type: 'link_lost' }, 'queued', []],
    [at('placed'), { type: 'link_lost' }, 'placed', []],
    [recovering('sent'), told('fenced'), 'queued', ['requeue no_agent']],
    [recovering('accepted'), told('fenced'), 'queued', ['requeue no_agent']],
    [recovering('sent', MAX_ATTEMPTS), told('fenced'), 'over', ['fail agent_lost no']],
    [recovering('sent'), told('unknown'), 'over', ['fail maybe_started unknown']],
    [recovering('accepted'), told('unknown'), 'over', ['fail agent_lost unknown']],
    [recovering('sent'), told('accepted'), 'attaching', ['attach']],
    [recovering('sent'), told('started', { started_at_ms_ago: 1 }), 'attaching', ['open', 'attach']],
    [recovering('accepted'), told('ended', { started_at_ms_ago: 1 }), 'attaching', ['open', 'attach']],
    [recovering('accepted'), told('ended'), 'attaching', ['attach']],
    [recovering('sent'), { type: 'untold' }, 'over', ['fail maybe_started unknown']],
    [recovering('accepted'), { type: 'untold' }, 'over', ['fail agent_lost unknown']],
    // A stream that is opened again.
    [attaching('accepted'), { type: 'accept' }, 'accepted', []],
    [attaching('started'), { type: 'accept' }, 'started', []],
    [attaching('started'), { type: 'link_lost' }, 'attaching', ['attach']],
    [attaching('accepted'), nack('not_found'), 'recovering', ['ask with fence']],
    [attaching('started'), nack('not_found'), 'over', ['fail agent_lost yes']],
    [attaching('started'), nack('rate_limited'), 'over', ['fail agent_lost yes']],
    [attaching('started'), { type: 'untold' }, 'over', ['fail agent_lost yes']],
    [attaching('accepted'), { type: 'untold' }, 'over', ['fail agent_lost unknown']],
    [attaching('started'), exit, 'attaching', ['fault']],
    [at('started'), { type: 'gap' }, 'over', ['cancel agent_lost', 'fail agent_lost yes']],
    // Clocks and callers.
    [at('queued'), { type: 'queue_over', failure }, 'over', ['fail at_capacity no']],
    [at('sent'), { type: 'queue_over', failure }, 'sent', []],
    [at('queued'), { type: 'deadline' }, 'over', ['fail deadline_exceeded no']],
    [at('placed'), { type: 'deadline' }, 'over', ['fail deadline_exceeded no']],
    [at('placed'), { type: 'stop', code: 'unauthorized', detail: '' }, 'over', ['fail unauthorized no']],
    [at('placed'), { type: 'part', detail: '' }, 'over', ['fail draining no']],
    [at('placed'), { type: 'input_failed', failure }, 'over', ['fail at_capacity no']],
    [
      at('sent'),
      { type: 'deadline' },
      'over',
      ['cancel deadline_exceeded', 'fail deadline_exceeded unknown'],
    ],
    [at('started'), { type: 'deadline' }, 'over', ['cancel deadline_exceeded', 'fail deadline_exceeded yes']],
    [
      recovering('sent'),
      { type: 'deadline' },
      'over',
      ['cancel_by_id deadline_exceeded', 'fail maybe_started unknown'],
    ],
    [at('queued'), { type: 'stop', code: 'cancelled', detail: '' }, 'over', ['fail cancelled no']],
    [
      attaching('started'),
      { type: 'deadline' },
      'over',
      ['cancel_by_id deadline_exceeded', 'fail agent_lost yes'],
    ],
    [
      at('started'),
      { type: 'stop', code: 'unauthorized', detail: '' },
      'over',
      ['cancel unauthorized', 'fail unauthorized yes'],
    ],
    [
      at('accepted'),
      { type: 'input_failed', failure },
      'over',
      ['cancel at_capacity', 'fail at_capacity no'],
    ],
  ])('%o, told %o, is %s', ([state, event, where, effects]) => {
    expect(words(state, event)).toEqual(effects);
    expect(nextExecution(state, event).state.at).toBe(where);
  });

  test('that is over stays over, whatever comes', () => {
    const over: ExecutionState = { at: 'over', attempts: 1 };
    for (const event of [
      exit,
      nack('busy'),
      told('fenced'),
      { type: 'placed' },
      { type: 'link_lost' },
    ] as const)
      expect(nextExecution(over, event)).toEqual({ state: over, effects: [] });
  });

  test('never says that it did not start once it may have', () => {
    const wheres = ['queued', 'placed', 'sent', 'accepted', 'started'] as const;
    expect(wheres.map((where) => startedIn(at(where)))).toEqual(['no', 'no', 'unknown', 'unknown', 'yes']);
  });
});

test('an agent cannot have a caller told what only a gateway may say', () => {
  for (const code of ['unauthorized', 'forbidden', 'not_found', 'invalid_request', 'internal', 'made_up'])
    expect([refusalCode(code), failureCode(code)]).toEqual(['backend_unavailable', 'runner_error']);
  expect([refusalCode('policy_denied'), failureCode('sandbox_lost')]).toEqual([
    'policy_denied',
    'sandbox_lost',
  ]);
});
