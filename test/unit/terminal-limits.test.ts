import { expect, test } from 'vitest';
import {
  MAX_TERMINAL_OUTPUT_BYTES,
  MAX_TERMINALS,
  MAX_TERMINALS_PER_PRINCIPAL,
  TERMINAL_IDLE_MS,
} from '../../shared/limits.ts';
import { type FakeRun, resultOf } from '../fakes/fake-runner.ts';
import { createSessionBench, NOBODY } from '../fakes/session-bench.ts';

test('MAX_TERMINALS_PER_PRINCIPAL are open at once in all sessions of a principal, and one more is refused', async () => {
  const sessions = MAX_TERMINALS_PER_PRINCIPAL / MAX_TERMINALS;
  const { clock, open, terminal } = await createSessionBench(sessions + 2);
  let last: FakeRun | undefined;
  for (let session = 0; session < sessions; session += 1) {
    await open('acme/alice', `s${session}`);
    for (let index = 0; index < MAX_TERMINALS; index += 1) {
      const begun = await terminal('acme/alice', `s${session}`, `t${index}`);
      expect(begun.answer).toBe('accepted');
      begun.run.started();
      last = begun.run;
    }
  }
  await open('acme/alice', 'more');
  await open('acme/bob', 'other');
  expect((await terminal('acme/alice', 'more', 't')).answer).toBe('rate_limited');
  expect((await terminal('acme/bob', 'other', 't')).answer).toBe('accepted');
  last?.exit(resultOf());
  await clock.settle();
  expect((await terminal('acme/alice', 'more', 't')).answer).toBe('accepted');
});

test('a terminal that nobody uses is ended after TERMINAL_IDLE_MS, counted from what was typed last', async () => {
  const { clock, executions, open, terminal } = await createSessionBench(1);
  await open('acme/alice', 's');
  const { run, id } = await terminal('acme/alice', 's', 't');
  run.started();
  await clock.advance(TERMINAL_IDLE_MS - 1);
  expect(run.cancelled).toBeUndefined();
  const typing = executions.feed({ execution_id: id, writer: 'w' }, NOBODY);
  typing?.data(Buffer.from('x'));
  typing?.leave('detached');
  await clock.advance(TERMINAL_IDLE_MS - 1);
  expect(run.cancelled).toBeUndefined();
  await clock.advance(1);
  expect(run.cancelled).toBe('idle');
});

test('a terminal shows as much as it is asked to, and MAX_TERMINAL_OUTPUT_BYTES at most', async () => {
  const { open, terminal } = await createSessionBench(1);
  await open('acme/alice', 's');
  for (const [asked, given] of [
    [MAX_TERMINAL_OUTPUT_BYTES - 1, MAX_TERMINAL_OUTPUT_BYTES - 1],
    [MAX_TERMINAL_OUTPUT_BYTES, MAX_TERMINAL_OUTPUT_BYTES],
    [MAX_TERMINAL_OUTPUT_BYTES + 1, MAX_TERMINAL_OUTPUT_BYTES],
  ] as const) {
    const { run } = await terminal('acme/alice', 's', `t${asked % 10}`, asked);
    expect(run.body.limits.max_output_bytes).toBe(given);
  }
});
