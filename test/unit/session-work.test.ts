import { expect, test } from 'vitest';
import { OPEN_SILENCE_MS } from '../../agent/executions/runner-silence.ts';
import { RUNNER_GRACE_MS, TERMINAL_IDLE_MS } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import { resultOf } from '../fakes/fake-runner.ts';
import { createSessionBench, NOBODY } from '../fakes/session-bench.ts';

const OPEN = { do: 'open', id: 's', ttl_ms: 60_000, idle_ms: null, ceiling: null } as const;
const FROM_THE_START = { offsets: { 1: 0, 2: 0, 3: 0 }, files: 0, pending: 0 };

test('a session has OPEN_SILENCE_MS to open before its runner is given up', async () => {
  const bench = await createSessionBench(1);
  const { words } = await bench.begin('acme/alice', OPEN);
  await bench.clock.advance(OPEN_SILENCE_MS - 1);
  expect(words).toEqual([]);
  await bench.clock.advance(1);
  expect(words).toEqual(['EXIT runner_error']);
});

test('a session that its sandbox fails may open in another, and its work has no other', async () => {
  const bench = await createSessionBench(2);
  const broken = { code: 'runner_error', detail: 'x', started: 'no' } as const;
  const opening = await bench.begin('acme/alice', OPEN);
  opening.run.exit({ result: null, failure: broken });
  await bench.clock.settle();
  await bench.open('acme/alice', 's');
  const work = await bench.bash('acme/alice', 's');
  work.run.exit({ result: null, failure: broken });
  await bench.clock.settle();
  const { words } = opening;
  expect([words, work.words]).toEqual([[], ['EXIT runner_error']]);
});

test('what a runner says of work that was given up goes nowhere, and the session lives on', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's');
  for (const { runner } of bench.backend.made) runner.onCancel = () => {};
  const { run, id, words } = await bench.bash('acme/alice', 's');
  void bench.executions.cancel(id, 'caller_left');
  await bench.clock.advance(RUNNER_GRACE_MS);
  expect(words).toEqual(['EXIT cancelled']);
  run.started();
  run.output(1, 'late');
  run.output(3, 'late');
  run.file({ path: 'late', size: 4, sha256: '0'.repeat(64) });
  run.exit(resultOf({ stdout_bytes: 4 }));
  await bench.clock.advance(60_000);
  expect(words).toEqual(['EXIT cancelled']);
  expect([bench.executions.running(), bench.executions.sessions.size]).toEqual([0, 1]);
});

test('what a terminal shows is use of it where somebody looks, and none where nobody does', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's');
  const { run, id, input } = await bench.terminal('acme/alice', 's', 't');
  run.started();
  await bench.clock.advance(TERMINAL_IDLE_MS - 1);
  run.output(1, 'seen');
  await bench.clock.advance(TERMINAL_IDLE_MS - 1);
  input?.leave('detached');
  run.output(1, 'unseen');
  await bench.clock.settle();
  const looking = bench.executions.attach({ execution_id: id, reader: 'r', ...FROM_THE_START }, NOBODY);
  looking?.leave('detached');
  expect(run.cancelled).toBeUndefined();
  await bench.clock.advance(1);
  expect(run.cancelled).toBe('idle');
});

test('whoever feeds a program is told that it has ended', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's');
  const { run, id } = await bench.begin('acme/alice', { do: 'bash', id: 's', input: true });
  run.started();
  await bench.clock.settle();
  const told: FromAgent['INPUT'][] = [];
  const port = { ...NOBODY, inputOver: (body: FromAgent['INPUT']) => told.push(body) };
  bench.executions.feed({ execution_id: id, writer: 'w' }, port);
  run.exit(resultOf());
  await bench.clock.settle();
  expect(told).toEqual([{ taken: 0, why: 'ended' }]);
});
