import { expect, test } from 'vitest';
import { OPEN_SILENCE_MS } from '../../agent/executions/runner-silence.ts';
import { LATE_EXIT_MS } from '../../agent/sessions/session.ts';
import {
  MAX_SESSION_TTL_SECONDS,
  MAX_SESSIONS,
  RUNNER_GRACE_MS,
  TERMINAL_IDLE_MS,
} from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { SessionAsk } from '../../shared/session-messages.ts';
import { resultOf } from '../fakes/fake-runner.ts';
import { createSessionBench, NOBODY } from '../fakes/session-bench.ts';
import { START } from '../fakes/start-body.ts';

const OPEN = { do: 'open', id: 's', ttl_ms: 60_000, idle_ms: null, ceiling: null } as const;
const ask = (action: SessionAsk['action'], principal = 'acme/alice', ttl_ms: number | null = null) =>
  ({ ref: 1, principal, action, session_id: action === 'list' ? null : 's', ttl_ms, skip: 0 }) as const;
const endsOf = ({ reports }: Awaited<ReturnType<typeof createSessionBench>>) =>
  reports.flatMap(({ end }) => end?.why ?? []);
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
  const later: string[] = [];
  bench.executions.attach(
    { execution_id: id, reader: 'r', ...FROM_THE_START },
    {
      ...NOBODY,
      started: () => later.push('STARTED'),
      data: () => later.push('DATA'),
      fileEnd: () => later.push('END'),
      exit: () => later.push('EXIT'),
    },
  );
  expect([words, later]).toEqual([['EXIT cancelled'], ['EXIT']]);
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

test('another principal’s session is none, whatever a gateway says', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's');
  const { sessions } = bench.executions;
  expect((await bench.bash('acme/bob', 's')).answer).toBe('no_session');
  for (const action of ['list', 'get', 'extend', 'end'] as const)
    expect(await sessions.answer(ask(action, 'acme/bob', 1_000))).toEqual({ ref: 1, sessions: [], total: 0 });
  expect((await sessions.answer(ask('list'))).total).toBe(1);
  expect((await bench.bash('acme/alice', 's')).answer).toBe('accepted');
});

test('a session that another opens or has counts at none but that one’s ceiling', async () => {
  const bench = await createSessionBench(3);
  await bench.open('acme/alice', 'kept');
  await bench.begin('acme/alice', OPEN);
  expect((await bench.begin('acme/bob', { ...OPEN, id: 'b', ceiling: 1 })).answer).toBe('accepted');
});

test('an agent keeps MAX_SESSIONS, those that are being opened with them, and refuses one more', async () => {
  const bench = await createSessionBench(2);
  await bench.open('acme/alice', 'kept');
  const { sessions } = bench.executions;
  const opening = (id: string) => ({ ...START, session: { ...OPEN, id } });
  for (let index = 2; index < MAX_SESSIONS; index += 1) sessions.enter(opening(`s${index}`));
  expect((await bench.begin('acme/bob', OPEN)).answer).toBe('accepted');
  const more = { ...OPEN, id: 'more' };
  expect((await bench.begin('acme/bob', more)).answer).toBe('at_capacity');
  sessions.leave(opening('s2'));
  expect((await bench.begin('acme/bob', more)).answer).toBe('none');
});

test('a session whose opening was ended by a limit is none', async () => {
  const bench = await createSessionBench(1);
  const { run } = await bench.begin('acme/alice', OPEN);
  run.started();
  run.exit(resultOf({ outcome: 'timed_out', exit_code: null, timed_out: true }));
  await bench.clock.settle();
  expect([bench.executions.sessions.size, bench.reports]).toEqual([0, []]);
});

test('a session ends with its sandbox, and one whose runner ends no work in LATE_EXIT_MS is given up', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's');
  bench.backend.made[0]?.runner.die();
  await bench.clock.settle();
  expect(endsOf(bench)).toEqual(['lost']);
  await bench.open('acme/alice', 's');
  for (const { runner } of bench.backend.made) runner.onCancel = () => {};
  const { id } = await bench.bash('acme/alice', 's');
  void bench.executions.cancel(id, 'caller_left');
  await bench.clock.advance(RUNNER_GRACE_MS + LATE_EXIT_MS - 1);
  expect(endsOf(bench)).toEqual(['lost']);
  await bench.clock.advance(1);
  expect(endsOf(bench)).toEqual(['lost', 'lost']);
});

test('a session whose sandbox cannot be reached has nothing under way, and no signal comes through', async () => {
  const bench = await createSessionBench(1, true);
  await bench.open('acme/alice', 's');
  const { run, id } = await bench.bash('acme/alice', 's');
  run.started();
  await bench.clock.settle();
  bench.backend.unreachable = true;
  bench.backend.made[0]?.runner.die();
  await bench.clock.settle();
  expect(bench.executions.signal({ ref: 1, execution_id: id, signal: 'SIGINT' }).state).toBe('unreachable');
  const { input } = await bench.begin('acme/alice', { do: 'python', id: 's', context: 'c', rich: false });
  expect(input).toBeDefined();
  await bench.clock.advance(6_000);
  const [state] = (await bench.executions.sessions.answer(ask('get'))).sessions;
  expect(state?.running).toBe(0);
});

test('a session is extended, never shortened, and lives a day in all at most', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's', { ttl_ms: 60_000 });
  const { sessions } = bench.executions;
  const left = async (ttlMs: number) =>
    (await sessions.answer(ask('extend', 'acme/alice', ttlMs))).sessions[0]?.expires_in_ms;
  expect(await left(30_000)).toBe(60_000);
  expect(await left(90_000)).toBe(90_000);
  await bench.clock.advance(1_000);
  expect(await left(2 * MAX_SESSION_TTL_SECONDS * 1_000)).toBe(MAX_SESSION_TTL_SECONDS * 1_000 - 1_000);
});

test('a session is extended in the turn in which work in it begins, and both are heard', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's', { ttl_ms: 60_000 });
  const beginning = bench.bash('acme/alice', 's');
  await bench.executions.sessions.answer(ask('extend', 'acme/alice', 90_000));
  expect((await beginning).answer).toBe('accepted');
  const heard = bench.backend.made.flatMap(({ runner }) => runner.runs.map(({ body }) => body.session?.do));
  expect(heard.toSorted()).toEqual(['bash', 'extend', 'open']);
});

test('a session outlives work that its runner was never given, since its stream was lost in that very turn', async () => {
  const bench = await createSessionBench(1, true);
  await bench.open('acme/alice', 's');
  const beginning = Promise.withResolvers<{ answer: string }>();
  setImmediate(() => {
    bench.backend.made[0]?.runner.die();
    beginning.resolve(bench.bash('acme/alice', 's'));
  });
  expect((await beginning.promise).answer).toBe('sandbox_lost');
  await bench.clock.advance(LATE_EXIT_MS);
  expect(endsOf(bench)).toEqual([]);
});

test('a session in which one piece of work ends while another runs is not idle', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's', { idle_ms: 1_000 });
  const [one, two] = [await bench.bash('acme/alice', 's'), await bench.bash('acme/alice', 's')];
  for (const { run } of [one, two]) run.started();
  one.run.exit(resultOf());
  await bench.clock.advance(1_500);
  expect(endsOf(bench)).toEqual([]);
  two.run.exit(resultOf());
  await bench.clock.advance(1_000);
  expect(endsOf(bench)).toEqual(['idle']);
});

test('a drain waits for no terminal', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's');
  const { run } = await bench.terminal('acme/alice', 's', 't');
  run.started();
  await bench.clock.settle();
  await bench.executions.drain();
  expect(bench.executions.running()).toBe(1);
});
