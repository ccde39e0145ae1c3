import { expect, test } from 'vitest';
import { resultOf } from '../fakes/fake-runner.ts';
import { createSessionBench } from '../fakes/session-bench.ts';

const endsOf = ({ reports }: Awaited<ReturnType<typeof createSessionBench>>) =>
  reports.flatMap(({ end }) => end ?? []);

test('a session ends exactly when its time is over, with what runs in it', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's', { ttl_ms: 3_000 });
  const { run } = await bench.bash('acme/alice', 's');
  run.started();
  await bench.clock.advance(2_999);
  expect([bench.executions.sessions.size, endsOf(bench)]).toEqual([1, []]);
  await bench.clock.advance(1);
  expect(endsOf(bench)).toEqual([{ why: 'expired', livedMs: 3_000, works: 1 }]);
  expect([bench.executions.sessions.size, bench.executions.running()]).toEqual([0, 0]);
  expect((await bench.bash('acme/alice', 's')).answer).toBe('no_session');
});

test('a session ends exactly when nothing has run in it for its idle time, counted from the last end', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's', { ttl_ms: 60_000, idle_ms: 1_000 });
  await bench.clock.advance(999);
  const { run } = await bench.bash('acme/alice', 's');
  run.started();
  await bench.clock.advance(1_500);
  run.exit(resultOf());
  await bench.clock.advance(999);
  expect(endsOf(bench)).toEqual([]);
  await bench.clock.advance(1);
  expect(endsOf(bench)).toEqual([{ why: 'idle', livedMs: 3_499, works: 1 }]);
});
