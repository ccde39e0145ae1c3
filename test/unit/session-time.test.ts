import { expect, test } from 'vitest';
import type { Caller } from '../../gateway/auth/caller.ts';
import { BEGINNING_SLACK_MS, MAX_BEGINNINGS } from '../../gateway/execution/beginnings.ts';
import { MAX_PAGE } from '../../gateway/http/page.ts';
import {
  createSessionBook,
  LIST_TIMEOUT_MS,
  type SessionBook,
  type SessionBookDeps,
} from '../../gateway/sessions/session-book.ts';
import { collectSessionPage } from '../../gateway/sessions/session-page.ts';
import { createSessionTimes } from '../../gateway/sessions/session-times.ts';
import { MAX_SESSION_TTL_SECONDS, MAX_SESSIONS } from '../../shared/limits.ts';
import { MAX_SESSIONS_LISTED, type SessionState } from '../../shared/session-messages.ts';
import { resultOf } from '../fakes/fake-runner.ts';
import { startHeldBytes } from '../fakes/held-bytes.ts';
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

test('a session lives a day at most, idle or not, and its runner is told so, whatever its gateway asks for', async () => {
  const bench = await createSessionBench(1);
  const endless = { ttl_ms: Number.MAX_SAFE_INTEGER, idle_ms: Number.MAX_SAFE_INTEGER };
  await bench.open('acme/alice', 's', endless);
  const [{ body } = { body: undefined }] = bench.backend.made.flatMap(({ runner }) => runner.runs);
  expect(body?.session).toEqual({ do: 'open', ttl_seconds: MAX_SESSION_TTL_SECONDS + 30 });
  expect(bench.reports).toMatchObject([{ ttlMs: 86_400_000, idleMs: 86_400_000, end: null }]);
  await bench.clock.advance(MAX_SESSION_TTL_SECONDS * 1_000 - 1);
  expect(endsOf(bench)).toEqual([]);
  await bench.clock.advance(1);
  expect(endsOf(bench)).toMatchObject([{ why: 'expired' }]);
});

const stateOf = (more: Partial<SessionState>): SessionState => ({
  session_id: 's',
  cluster: 'lab',
  template: 'default',
  created_ms_ago: 0,
  expires_in_ms: 60_000,
  idle_ms: null,
  running: 0,
  ...more,
});

const caller = {
  tenant: 'acme',
  principal: 'acme/alice',
  clusters: ['*'],
  templates: null,
} as unknown as Caller;

/** What a gateway knows of sessions over one link to each instance, by its name. */
function bookOf(links: Record<string, { joined: boolean; sessions: unknown }>, clock = () => 0) {
  const directory = {
    linkTo: ({ instance }: { instance: string }) => {
      const { joined, sessions } = links[instance] ?? {};
      return { joined, questions: { sessions } };
    },
    clusters: () => [{ name: 'lab', instances: Object.keys(links).map((name) => ({ name })) }],
  } as unknown as SessionBookDeps['directory'];
  return createSessionBook({ ids: {} as SessionBookDeps['ids'], now: clock, elapsed: clock, directory });
}

/** What a gateway lists on one page: by default all that an answer may hold. */
async function listed(book: SessionBook, limit = MAX_PAGE) {
  const collector = collectSessionPage({ limit, after: undefined });
  await book.list(caller, null, collector);
  return collector.page().sessions;
}

test('a session began and ends at the same time in every answer, however long the answers take', async () => {
  let nowMs = 1_000_000;
  let state = stateOf({ created_ms_ago: 5, expires_in_ms: 59_995 });
  const sessions = async () => ({ ref: 1, sessions: [state], total: 1 });
  const book = bookOf({ 'instance-1': { joined: true, sessions } }, () => nowMs);
  const place = { id: 's', cluster: 'lab', instance: 'instance-1', template: 'default' };
  const times = { created_at: 999.995, expires_at: 1_059.995 };
  expect(await book.ask(caller, place, 'get')).toMatchObject(times);
  nowMs += 1_013;
  state = stateOf({ created_ms_ago: 1_010, expires_in_ms: 58_990 });
  expect(await book.ask(caller, place, 'get')).toMatchObject(times);
  expect(await listed(book)).toMatchObject([times]);
  state = stateOf({ created_ms_ago: 1_011, expires_in_ms: 118_989 });
  expect(await book.ask(caller, place, 'extend')).toMatchObject({ ...times, expires_at: 1_119.995 });
});

test('an agent that claims more sessions than any may have is believed as many', async () => {
  let asks = 0;
  const sessions = async () => {
    asks += 1;
    if (asks > 2 * MAX_SESSIONS) throw new Error('It is asked without end.');
    const page = Array.from({ length: MAX_SESSIONS_LISTED }, (_, at) =>
      stateOf({ session_id: `s${asks}-${at}` }),
    );
    return { ref: 1, sessions: page, total: Number.MAX_SAFE_INTEGER };
  };
  const book = bookOf({ 'instance-1': { joined: true, sessions } });
  expect(await listed(book, 2 * MAX_SESSIONS)).toHaveLength(asks * MAX_SESSIONS_LISTED);
  expect(asks).toBe(Math.ceil(MAX_SESSIONS / MAX_SESSIONS_LISTED));
});

test('an agent is believed of no cluster that it does not serve, and of the session that was asked about alone', async () => {
  const told = ['lab', 'prod', 'lab'].map((cluster, at) => stateOf({ session_id: `s${at}`, cluster }));
  const lies = { session_id: 's9', cluster: 'prod', template: 'large' };
  const sessions = async ({ action }: { action: string }) => ({
    ref: 1,
    sessions: action === 'list' ? told : [stateOf(lies)],
    total: told.length,
  });
  const book = bookOf({ 'instance-1': { joined: true, sessions } });
  expect((await listed(book)).map(({ session_id }) => session_id)).toEqual(['s0', 's2']);
  const place = { id: 's0', cluster: 'lab', instance: 'instance-1', template: 'default' };
  const known = { session_id: 's0', cluster: 'lab', template: 'default' };
  expect(await book.ask(caller, place, 'get')).toMatchObject(known);
});

test('a list holds one page, however many sessions agents tell of and however long their ids are', async () => {
  const heldBytes = startHeldBytes('heapUsed');
  const held: number[] = [];
  const instance = (name: string) => {
    let asks = 0;
    const sessions = async () => {
      asks += 1;
      if (asks * MAX_SESSIONS_LISTED >= MAX_SESSIONS) held.push(heldBytes());
      const page = Array.from({ length: MAX_SESSIONS_LISTED }, (_, at) =>
        stateOf({ session_id: Buffer.from(`${name}-${asks}-${at}`.padEnd(1_024, 'x')).toString('latin1') }),
      );
      return { ref: 1, sessions: page, total: MAX_SESSIONS };
    };
    return { joined: true, sessions };
  };
  const names = Array.from({ length: 4 }, (_, at) => `instance-${at}`);
  const book = bookOf(Object.fromEntries(names.map((name) => [name, instance(name)])));
  expect(await listed(book)).toHaveLength(MAX_PAGE);
  expect(held).toHaveLength(names.length);
  // Beside the page it is the beginnings that a gateway remembers anyway.
  for (const bytes of held) expect(bytes).toBeLessThan(2 * 1_024 * (MAX_PAGE + MAX_BEGINNINGS));
});

test('an agent that takes its time over every page, or loses its link with each, hides in time what it has not told of, and nothing of another', async () => {
  let elapsedMs = 0;
  const spend = (ms: number) => {
    elapsedMs += ms;
    if (elapsedMs > 3_600_000) throw new Error('It is asked without end.');
  };
  let pages = 0;
  const slow = async (_question: unknown, timeoutMs: number) => {
    spend(Math.min(timeoutMs, 9_999));
    if (timeoutMs < 9_999) return null;
    pages += 1;
    const page = Array.from({ length: MAX_SESSIONS_LISTED }, () => stateOf({}));
    return { ref: 1, sessions: page, total: MAX_SESSIONS };
  };
  const flapping = async (_question: unknown, timeoutMs: number) => {
    spend(Math.min(timeoutMs, 100));
    return null;
  };
  const quick = async () => ({ ref: 1, sessions: [stateOf({ session_id: 'told' })], total: 1 });
  const links = {
    slow: { joined: true, sessions: slow },
    flapping: { joined: false, sessions: flapping },
    quick: { joined: true, sessions: quick },
  };
  const book = bookOf(links, () => elapsedMs);
  const found = await listed(book);
  expect(found.filter(({ session_id }) => session_id === 'told')).toHaveLength(1);
  expect(pages).toBeGreaterThan(0);
  expect(found).toHaveLength(1 + pages * MAX_SESSIONS_LISTED);
  // The second begins when the first has spent some of it.
  expect(elapsedMs).toBeLessThan(2 * LIST_TIMEOUT_MS);
});

test('a beginning is told anew where a clock was set, and where too many came since', () => {
  let nowMs = 1_000_000;
  const timesOf = createSessionTimes(() => nowMs, 2);
  const told = (session_id: string) => timesOf('acme instance-1', stateOf({ session_id })).created_at;
  const first = told('a');
  nowMs += BEGINNING_SLACK_MS;
  expect([told('a'), told('b')]).toEqual([first, first + 1]);
  expect(timesOf('other instance-1', stateOf({ session_id: 'a' })).created_at).toBe(first + 1);
  expect(told('a')).toBe(first + 1);
  nowMs += BEGINNING_SLACK_MS + 1;
  expect(told('a')).toBe(first + 2.001);
});

test('what a session has lived and has left add up to the same at any time', async () => {
  const bench = await createSessionBench(1);
  await bench.open('acme/alice', 's', { ttl_ms: 3_000 });
  const ask = {
    ref: 1,
    principal: 'acme/alice',
    action: 'get',
    session_id: 's',
    ttl_ms: null,
    skip: 0,
  } as const;
  for (const fraction of [0, 0.3, 0.5, 0.7]) {
    await bench.clock.advance(fraction);
    const [state] = (await bench.executions.sessions.answer(ask)).sessions;
    expect((state?.created_ms_ago ?? 0) + (state?.expires_in_ms ?? 0)).toBe(3_000);
  }
});

test('sessions that wait for their sandbox count, by holder and by id, until they are kept or refused', async () => {
  const bench = await createSessionBench(1);
  const beginning = (id: string) =>
    bench.begin('acme/alice', { do: 'open', id, ttl_ms: 60_000, idle_ms: null, ceiling: 2 });
  const first = await beginning('a');
  expect(first.answer).toBe('accepted');
  const waiting = await beginning('b');
  expect([waiting.answer, (await beginning('c')).answer]).toEqual(['none', 'rate_limited']);
  const namesake = { do: 'open', id: 'b', ttl_ms: 60_000, idle_ms: null, ceiling: null } as const;
  expect((await bench.begin('acme/bob', namesake)).answer).toBe('duplicate');
  await bench.executions.cancel(waiting.id, 'caller_left');
  expect((await beginning('c')).answer).toBe('none');
  first.run.started();
  first.run.exit(resultOf());
  await bench.clock.settle();
  expect([bench.executions.sessions.size, (await beginning('d')).answer]).toEqual([1, 'rate_limited']);
});

test('a runner is told of the newest extension once it can be reached, one at a time, and again where that was lost', async () => {
  const bench = await createSessionBench(1, true);
  await bench.open('acme/alice', 's', { ttl_ms: 60_000 });
  const extend = (ttl_ms: number) =>
    bench.executions.sessions.answer({
      ref: 1,
      principal: 'acme/alice',
      action: 'extend',
      session_id: 's',
      ttl_ms,
      skip: 0,
    });
  const told = () =>
    bench.backend.made.flatMap(({ runner }) =>
      runner.runs.flatMap(({ body }) => (body.session?.do === 'extend' ? body.session.ttl_seconds : [])),
    );
  bench.backend.unreachable = true;
  bench.backend.made[0]?.runner.die();
  await bench.clock.settle();
  await extend(100_000);
  await extend(200_000);
  await bench.clock.advance(1_000);
  expect(told()).toEqual([]);
  bench.backend.unreachable = false;
  await bench.clock.advance(10_000);
  expect(told()).toHaveLength(1);
  expect(told()[0]).toBeGreaterThan(200);
  await extend(300_000);
  expect(told()).toHaveLength(1);
  const lost = { code: 'sandbox_lost', detail: '', started: 'no' } as const;
  bench.backend.made[0]?.runner.runs[0]?.exit({ result: null, failure: lost });
  await bench.clock.advance(200);
  expect(told().slice(1)).toEqual([330]);
  bench.backend.made[0]?.runner.runs[1]?.started();
  bench.backend.made[0]?.runner.runs[1]?.exit(resultOf());
  await bench.clock.advance(1_000);
  expect(told()).toHaveLength(2);
});
