import fc from 'fast-check';
import { test } from 'vitest';
import type { ExecutionEvent } from '../../gateway/execution/execution-event.ts';
import { FIRST_EXECUTION_STATE, nextExecution } from '../../gateway/execution/execution-state.ts';
import { Failure } from '../../shared/errors.ts';
import { MAX_ATTEMPTS } from '../../shared/limits.ts';
import { RESULT } from '../fakes/mock-agent.ts';

const record = { accepted_at_ms_ago: 1, started_at_ms_ago: null, ended_at_ms_ago: null, exit: null };
const failure = new Failure('at_capacity', 'All taken.');
const event: fc.Arbitrary<ExecutionEvent> = fc.oneof(
  fc.constantFrom<ExecutionEvent>(
    { type: 'accept' },
    { type: 'started' },
    { type: 'exit', body: { result: RESULT, failure: null } },
    { type: 'link_lost' },
    { type: 'untold' },
    { type: 'gap' },
    { type: 'deadline' },
    { type: 'queue_over', failure },
    { type: 'nowhere_else', failure },
    { type: 'input_failed', failure },
    { type: 'part', detail: '' },
    { type: 'stop', code: 'cancelled', detail: '' },
  ),
  fc
    .constantFrom('sandbox_lost', 'not_found', 'at_capacity', 'rate_limited', 'nonsense')
    .map((code): ExecutionEvent => ({ type: 'nack', code, detail: '', retryAfterMs: null })),
  fc
    .constantFrom('unknown', 'fenced', 'accepted', 'started', 'ended')
    .map((state): ExecutionEvent => ({ type: 'told', answer: { state, record } })),
);

test('whatever an agent says, an execution ends once, is sent again only when it surely did not start, and rarely', () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      let state = FIRST_EXECUTION_STATE;
      let ends = 0;
      let counted = 0;
      /** Whatever is lost or told afterwards. */
      let started = false;
      for (const next of [...events]) {
        if (state.at === 'queued') {
          for (const type of ['placed', 'sent'] as const) state = nextExecution(state, { type }).state;
          counted += 1;
        }
        const before = state;
        const step = nextExecution(state, next);
        state = step.state;
        if (state.at === 'started') started = true;
        ends += step.effects.filter((effect) => effect.do === 'finish' || effect.do === 'fail').length;
        const again = before.at !== 'queued' && state.at === 'queued';
        if (again && started) return false;
        if (again && next.type !== 'nack' && !(next.type === 'told' && next.answer.state === 'fenced'))
          return false;
        if (again && next.type === 'nack' && ['at_capacity', 'draining'].includes(next.code)) counted -= 1;
        if (counted > MAX_ATTEMPTS || ends > 1) return false;
        if ((state.at === 'over') !== (ends === 1)) return false;
      }
      return true;
    }),
    { numRuns: 2_000 },
  );
});
