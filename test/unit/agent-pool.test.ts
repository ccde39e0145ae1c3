import { describe, expect, test } from 'vitest';
import { POOL_BOUNDS } from '../../agent/pool/bounds.ts';
import { createPool, type Pool } from '../../agent/pool/pool.ts';
import { next, SANDBOX_EVENTS, SANDBOX_STATES, type SandboxState } from '../../agent/pool/sandbox-state.ts';
import { Failure } from '../../shared/errors.ts';
import { parseTemplate, type TemplateInput } from '../../shared/template.ts';
import { createFakeBackend, type FakeBackend } from '../fakes/fake-backend.ts';
import { createFakeClock, type FakeClock } from '../fakes/fake-clock.ts';

type Bench = {
  pool: Pool;
  backend: FakeBackend;
  clock: FakeClock;
  logged: [event: string, fields: Record<string, unknown>][];
  changes: () => number;
};

async function createBench(
  template: Partial<TemplateInput> = {},
  fresh = true,
  reconnects = false,
): Promise<Bench> {
  const clock = createFakeClock();
  const backend = createFakeBackend({ freshPerExecution: fresh, reconnects });
  const logged: Bench['logged'] = [];
  let changes = 0;
  const pool = createPool({
    backend,
    clock,
    template: await parseTemplate({ name: 'default', pool: { min: 2, max: 4 }, ...template }),
    random: () => 0.5,
    log: (event, fields = {}) => logged.push([event, { ...fields }]),
    onChange: () => {
      changes += 1;
    },
  });
  return { pool, backend, clock, logged, changes: () => changes };
}

const never = () => new AbortController().signal;

describe('the states of a sandbox', () => {
  const unwanted: SandboxState[] = ['condemned', 'retiring', 'gone', 'cancelled'];

  test('end in gone, and nothing leads back from being given up', () => {
    for (const state of unwanted) {
      for (const event of SANDBOX_EVENTS) {
        let to: SandboxState | undefined;
        try {
          to = next(state, event);
        } catch {
          continue;
        }
        expect(unwanted, `${state} + ${event}`).toContain(to);
      }
    }
  });

  test('survive a retirement and a loss at every moment', () => {
    for (const state of SANDBOX_STATES) expect(() => next(state, 'retire')).not.toThrow();
    for (const state of [
      'connecting',
      'idle',
      'taken',
      'condemned',
      'resetting',
      'retiring',
      'gone',
    ] as const)
      expect(() => next(state, 'lost')).not.toThrow();
  });

  test.for([
    ['creating', 'created', 'connecting'],
    ['connecting', 'ready', 'idle'],
    ['idle', 'take', 'taken'],
    ['taken', 'give_back', 'idle'],
    ['taken', 'clean', 'resetting'],
    ['resetting', 'reset_done', 'idle'],
    ['resetting', 'reset_failed', 'retiring'],
    ['taken', 'retire', 'condemned'],
    ['condemned', 'give_back', 'retiring'],
    ['creating', 'retire', 'cancelled'],
    ['cancelled', 'created', 'retiring'],
    ['idle', 'ping_failed', 'retiring'],
    ['idle', 'interrupted', 'unreached'],
    ['unreached', 'restored', 'idle'],
    ['unreached', 'ping_failed', 'unreached'],
    ['unreached', 'retire', 'retiring'],
    ['taken', 'ping_failed', 'taken'],
    ['taken', 'interrupted', 'taken'],
    ['taken', 'lost', 'condemned'],
    ['condemned', 'clean', 'retiring'],
    ['resetting', 'ping_failed', 'resetting'],
    ['resetting', 'lost', 'retiring'],
    ['resetting', 'retire', 'retiring'],
    ['retiring', 'destroyed', 'gone'],
  ] as const)('%s meets %s and is %s', ([state, event, to]) => {
    expect(next(state, event)).toBe(to);
  });

  test.for([
    ['creating', 'take'],
    ['idle', 'give_back'],
    ['taken', 'take'],
    ['gone', 'take'],
    ['resetting', 'take'],
  ] as const)('%s cannot meet %s', ([state, event]) => {
    expect(() => next(state, event)).toThrow(RangeError);
  });
});

describe('a pool', () => {
  test('keeps min sandboxes waiting and never has more than max', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.settle();
    expect(pool.counts()).toMatchObject({ idle: 2 });
    const loans = [];
    for (let n = 0; n < 6; n += 1) {
      const loan = pool.take('a');
      if (loan) loans.push(loan);
      await clock.settle();
    }
    expect(loans).toHaveLength(4);
    expect(backend.peak).toBe(4);
    expect(pool.capacity()).toBe(0);
    for (const loan of loans) await loan.release('reuse');
    expect(pool.counts()).toMatchObject({ idle: 4 });
    expect(backend.creations).toBe(4);
  });

  test('takes sandboxes that isolate executions by themselves in turn: the one used last is not ready first', async () => {
    const { pool, clock } = await createBench();
    await clock.settle();
    const used: (string | undefined)[] = [];
    for (let n = 0; n < 6; n += 1) {
      const loan = pool.take('a');
      used.push(loan?.sandboxId);
      await loan?.release('reuse');
      await clock.settle();
    }
    const inTurn = new Set(used);
    expect(inTurn.size).toBeGreaterThan(1);
    expect(used.slice(0, inTurn.size)).toEqual([...inTurn]);
  });

  test('counts sandboxes on their way: a burst asks for no more than there is room for', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 0, max: 3 } });
    backend.hold = true;
    const waits = Array.from({ length: 10 }, (_, n) => pool.wait(`p${n}`, never()));
    await clock.settle();
    expect(backend.creations).toBe(3);
    expect(pool.capacity()).toBe(0);
    backend.release();
    await clock.settle();
    const first = await Promise.all(waits.slice(0, 3));
    expect(pool.counts()).toMatchObject({ taken: 3, waiting: 7 });
    for (const loan of first) await loan.release('reuse');
    await clock.settle();
    expect(pool.counts()).toMatchObject({ taken: 3, waiting: 4 });
    expect(backend.peak).toBe(3);
  });

  test('makes no others for those whose runner is not ready yet, and counts on them', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 2, max: 8 } });
    backend.onRunner = (runner) => {
      runner.answers.ready = false;
    };
    await clock.advance(1_000);
    expect([backend.creations, pool.counts().connecting, pool.capacity()]).toEqual([2, 2, 8]);
  });

  test('says that more can be taken when somebody waits no more', async () => {
    const { pool, backend, clock, changes } = await createBench({ pool: { min: 0, max: 1 } });
    backend.hold = true;
    const waiting = new AbortController();
    const refused = expect(pool.wait('a', waiting.signal)).rejects.toThrow('gone');
    await clock.settle();
    const before = changes();
    expect(pool.capacity()).toBe(0);
    waiting.abort(new Error('gone'));
    await refused;
    await clock.settle();
    expect([pool.capacity(), changes() - before]).toEqual([1, 1]);
  });

  test('keeps no place in the line for whoever was gone before it could wait', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 0, max: 1 } });
    backend.hold = true;
    await expect(pool.wait('a', AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
    await clock.settle();
    expect(pool.counts()).toMatchObject({ waiting: 0, creating: 0 });
  });

  test('makes another once an execution has had the processors for a while, where one still waits', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.settle();
    const before = backend.creations;
    pool.take('a');
    await clock.advance(POOL_BOUNDS.answerFirstMs - 1);
    expect(backend.creations).toBe(before);
    await clock.advance(1);
    expect(backend.creations).toBe(before + 1);
  });

  test('makes another after the turn in which the last that waited was taken', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 1, max: 4 } });
    await clock.settle();
    const before = backend.creations;
    pool.take('a');
    expect(backend.creations).toBe(before);
    await clock.settle();
    expect(backend.creations).toBe(before + 1);
  });

  test('removes and replaces a single_use sandbox once its answer is on its way', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 2, max: 2 } }, false);
    await clock.settle();
    const loan = pool.take('a');
    await clock.advance(POOL_BOUNDS.answerFirstMs);
    expect(await loan?.release('reuse')).toBe('discarded');
    await clock.advance(POOL_BOUNDS.answerFirstMs - 1);
    expect([backend.made.some(({ destroyed }) => destroyed), backend.creations]).toEqual([false, 2]);
    await clock.advance(1);
    await clock.settle();
    expect([backend.made.filter(({ destroyed }) => destroyed).length, backend.creations]).toEqual([1, 3]);
    expect(pool.counts()).toMatchObject({ idle: 2 });
  });

  test('removes a sandbox at once that is not to be trusted, that somebody waits for, or when it is closed', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 1, max: 1 } }, false);
    const destroyed = () => backend.made.filter((each) => each.destroyed).length;
    const take = async () => pool.take('a') ?? (await pool.wait('a', never()));
    await clock.settle();
    (await take()).release('discard');
    await clock.settle();
    expect(destroyed()).toBe(1);

    (await take()).release('reuse');
    const next = pool.wait('b', never());
    await clock.settle();
    expect(destroyed()).toBe(2);

    const after = pool.wait('c', never());
    (await next).release('reuse');
    await clock.settle();
    expect(destroyed()).toBe(3);

    (await after).release('reuse');
    const closed = pool.close();
    await clock.settle();
    expect(destroyed()).toBe(4);
    await closed;
  });

  test('resets a sandbox once its execution is answered, or so much later where nobody says so', async () => {
    const { pool, backend, clock } = await createBench({ reuse: 'reset', pool: { min: 1, max: 1 } }, false);
    await clock.settle();
    const resets = () => backend.made[0]?.runner.resets;
    const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
    pool.take('a')?.release('reuse', answered);
    await clock.advance(POOL_BOUNDS.resetAnywayMs - 1);
    expect([resets(), pool.counts().resetting, pool.capacity()]).toEqual([0, 1, 0]);
    answer();
    await clock.settle();
    expect([resets(), pool.counts().idle]).toEqual([1, 1]);

    pool.take('a')?.release('reuse', Promise.withResolvers<void>().promise);
    await clock.advance(POOL_BOUNDS.resetAnywayMs - 1);
    expect(resets()).toBe(1);
    await clock.advance(1);
    await clock.settle();
    expect([resets(), pool.counts().idle]).toEqual([2, 1]);
  });

  test('resets a sandbox at once that somebody waits for, and never one that is given up meanwhile', async () => {
    const { pool, backend, clock } = await createBench({ reuse: 'reset', pool: { min: 1, max: 1 } }, false);
    await clock.settle();
    const resets = () => backend.made.map(({ runner }) => runner.resets);
    const unanswered = () => Promise.withResolvers<void>().promise;
    pool.take('a')?.release('reuse', unanswered());
    const next = pool.wait('a', never());
    await clock.settle();
    expect(resets()).toEqual([1]);

    const after = pool.wait('a', never());
    (await next).release('reuse', unanswered());
    await clock.settle();
    expect(resets()).toEqual([2]);

    (await after).release('reuse', unanswered());
    pool.renew();
    await clock.advance(POOL_BOUNDS.resetAnywayMs);
    await clock.settle();
    expect([resets(), backend.made[0]?.destroyed]).toEqual([[2, 0], true]);
  });

  test('keeps a sandbox that nothing ran in, whatever its reuse', async () => {
    const { pool, backend, clock } = await createBench({}, false);
    await clock.settle();
    expect(await pool.take('a')?.release('unused')).toBe('returned');
    await clock.settle();
    expect(backend.alive).toHaveLength(2);
    expect(backend.creations).toBe(2);
  });

  test('gives a reset sandbox to the same principal only, and makes room for others by destroying it', async () => {
    const { pool, backend, clock } = await createBench({ reuse: 'reset', pool: { min: 0, max: 1 } }, false);
    const loan = await settled(pool.wait('a', never()), clock);
    const returned = loan.release('reuse', Promise.resolve());
    await clock.settle();
    expect(await returned).toBe('reset');
    expect(backend.made[0]?.runner.resets).toBe(1);
    expect(pool.take('b')).toBeUndefined();
    const again = pool.take('a');
    expect(again?.sandboxId).toBe(loan.sandboxId);
    expect([loan.nextStream(), again?.nextStream()]).toEqual([1, 2]);
    again?.release('reuse', Promise.resolve());
    await clock.settle();
    const other = await settled(pool.wait('b', never()), clock);
    expect(other.sandboxId).not.toBe(loan.sandboxId);
    expect(backend.peak).toBe(1);
  });

  test('gives a reset sandbox to nobody else who waits for one: it makes room for theirs', async () => {
    const { pool, backend, clock } = await createBench({ reuse: 'reset', pool: { min: 0, max: 1 } }, false);
    const loan = await settled(pool.wait('a', never()), clock);
    const waiting = pool.wait('b', never());
    await clock.settle();
    void loan.release('reuse', Promise.resolve());
    const other = await settled(waiting, clock);
    expect(other.sandboxId).not.toBe(loan.sandboxId);
    expect(backend.made[0]?.destroyed).toBe(true);
  });

  test('destroys one reset sandbox for one who waits, however long it takes to go and the next to be ready', async () => {
    const { pool, backend, clock } = await createBench({ reuse: 'reset', pool: { min: 0, max: 2 } }, false);
    const [one, two] = await Promise.all([
      settled(pool.wait('a', never()), clock),
      settled(pool.wait('a', never()), clock),
    ]);
    for (const loan of [one, two]) void loan?.release('reuse', Promise.resolve());
    await clock.settle();
    expect(pool.counts()).toMatchObject({ idle: 2 });
    backend.destroyFailures = 1;
    backend.onRunner = (runner) => {
      runner.answers.ready = false;
    };
    void pool.wait('b', never()).catch(() => {});
    await clock.settle();
    expect(pool.counts()).toMatchObject({ idle: 1, retiring: 1 });
    await clock.advance(POOL_BOUNDS.retryBaseMs);
    expect(pool.counts()).toMatchObject({ idle: 1, connecting: 1 });
    await pool.close();
  });

  test('keeps what waits for anybody beside what one principal keeps for itself', async () => {
    const { pool, backend, clock } = await createBench({ reuse: 'reset', pool: { min: 1, max: 2 } }, false);
    await clock.settle();
    const use = async () => {
      await pool.take('a')?.release('reuse', Promise.resolve());
      await clock.settle();
    };
    await use();
    for (let passedMs = 0; passedMs < 2 * POOL_BOUNDS.unusedMs; passedMs += POOL_BOUNDS.ownedUnusedMs / 2) {
      await clock.advance(POOL_BOUNDS.ownedUnusedMs / 2);
      await use();
    }
    expect([backend.creations, pool.counts().idle]).toEqual([2, 2]);
  });

  test('destroys a sandbox whose reset left something, and one whose reset does not end', async () => {
    for (const answer of ['dirty', false] as const) {
      const { pool, backend, clock, logged } = await createBench(
        { reuse: 'reset', pool: { min: 1, max: 1 } },
        false,
      );
      await clock.settle();
      const [first] = backend.made;
      if (first) first.runner.answers.reset = answer;
      const returned = pool.take('a')?.release('reuse', Promise.resolve());
      await clock.settle();
      await clock.advance(10_000);
      expect(await returned).toBe('discarded');
      expect(first?.destroyed).toBe(true);
      expect(logged.map(([event]) => event)).toContain('sandbox_discarded');
      expect(pool.counts()).toMatchObject({ idle: 1 });
    }
  });

  test('finds a runner that no longer answers before an execution does', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.settle();
    const [first] = backend.made;
    if (first) first.runner.answers.ping = false;
    await clock.advance(40_000);
    expect(first?.destroyed).toBe(true);
    expect(pool.counts()).toMatchObject({ idle: 2 });
  });

  test('thinks nothing of a PING that a sandbox with an execution does not answer', async () => {
    const { pool, backend, clock, logged } = await createBench({ pool: { min: 1, max: 1 } });
    await clock.settle();
    const [first] = backend.made;
    if (first) first.runner.answers.ping = false;
    await clock.advance(POOL_BOUNDS.pingEveryMs);
    const loan = pool.take('a');
    await clock.advance(POOL_BOUNDS.pingTimeoutMs);
    expect(await loan?.release('reuse')).toBe('returned');
    expect(logged).toEqual([]);
  });

  test('gives nobody a sandbox that was lost while it was taken', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 1, max: 1 } });
    await clock.advance(POOL_BOUNDS.steadyMs);
    const loan = pool.take('a');
    backend.made[0]?.runner.die();
    await clock.settle();
    expect(await loan?.release('reuse')).toBe('discarded');
    await clock.settle();
    expect(pool.take('a')?.sandboxId).not.toBe(loan?.sandboxId);
  });

  test('replaces a sandbox that dies while it waits', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.advance(20_000);
    backend.made[0]?.runner.die();
    await clock.advance(100);
    expect(backend.creations).toBe(3);
    expect(pool.counts()).toMatchObject({ idle: 2 });
    expect(pool.trouble).toBeNull();
  });

  test('lets what min does not ask for go after it was unused for long', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.settle();
    const loans = [pool.take('a'), pool.take('a')];
    await clock.settle();
    for (const loan of loans) loan?.release('reuse');
    await clock.settle();
    await clock.advance(POOL_BOUNDS.unusedMs - 1_000);
    expect(backend.alive).toHaveLength(4);
    await clock.advance(POOL_BOUNDS.pingEveryMs + 1_000);
    expect([backend.alive.length, backend.creations]).toEqual([2, 4]);
  });

  test('lets what one principal keeps for itself go sooner', async () => {
    const { pool, backend, clock } = await createBench({ reuse: 'reset', pool: { min: 0, max: 1 } }, false);
    const loan = await settled(pool.wait('a', never()), clock);
    void loan.release('reuse', Promise.resolve());
    await clock.advance(POOL_BOUNDS.ownedUnusedMs - 1_000);
    expect(backend.alive).toHaveLength(1);
    await clock.advance(POOL_BOUNDS.pingEveryMs + 1_000);
    expect(backend.alive).toHaveLength(0);
  });

  test.for([
    ['reset', false],
    ['give_back', true],
  ] as const)(
    'replaces a sandbox that grew old while somebody always waited for it: %s',
    async ([then, fresh]) => {
      const reuse = then === 'reset' ? then : 'single_use';
      const { pool, backend, clock } = await createBench({ pool: { min: 1, max: 1 }, reuse }, fresh);
      await clock.settle();
      let loan = pool.take('a');
      const useForMs = async (ms: number) => {
        const next = pool.wait('a', never());
        await clock.advance(ms);
        void loan?.release('reuse');
        await clock.settle();
        loan = await next;
      };
      const stepMs = POOL_BOUNDS.maxAgeMs / 10;
      for (let used = 1; used < 10; used += 1) await useForMs(stepMs);
      await useForMs(stepMs - 2_000);
      expect(backend.made).toHaveLength(1);
      await useForMs(2_000);
      expect(backend.made.map(({ destroyed }) => destroyed)).toEqual([true, false]);
      expect(loan?.sandboxId).toBe(backend.made[1]?.sandbox.id);
      void loan?.release('reuse');
      await pool.close();
    },
  );

  test('replaces sandboxes before they grow old', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.advance(3_700_000);
    expect(backend.made.slice(0, 2).every(({ destroyed }) => destroyed)).toBe(true);
    expect(pool.counts()).toMatchObject({ idle: 2 });
  });
});

const quota = new Failure('quota_exceeded', "The namespace's quota is used up.");

/** As a quota does: a creation fails while two live. Returns what lifts it. */
function limitToTwo(backend: FakeBackend): () => void {
  const create = backend.create.bind(backend);
  backend.create = (template, signal) => {
    backend.failure = backend.alive.length >= 2 ? quota : undefined;
    return create(template, signal);
  };
  return () => {
    backend.create = create;
    backend.failure = undefined;
  };
}

const REFUSED = { code: 'backend_unavailable', detail: 'The cluster cannot be reached or used now.' };

describe('a pool that cannot make sandboxes', () => {
  test('says so once, backs off with jitter, tries with one, and recovers', async () => {
    const { pool, backend, clock, logged } = await createBench();
    backend.failure = quota;
    await clock.settle();
    expect(pool.trouble).toEqual({ code: 'quota_exceeded', detail: "The namespace's quota is used up." });
    expect(pool.capacity()).toBe(0);
    await expect(pool.wait('a', never())).rejects.toMatchObject({ code: 'quota_exceeded' });
    const first = backend.creations;
    await clock.advance(60_000);
    // Waits of half of 2, 4, 8, 16, 32 and 60 s.
    expect(backend.creations - first).toBeLessThan(8);
    expect(logged.filter(([event]) => event === 'pool_trouble')).toHaveLength(1);
    backend.failure = undefined;
    await clock.advance(60_000);
    expect(pool.trouble).toBeNull();
    expect(pool.counts()).toMatchObject({ idle: 2 });
    expect(logged.filter(([event]) => event === 'pool_recovered')).toHaveLength(1);
  });

  test('is not said to have recovered when it is closed, and tries nothing more', async () => {
    const { pool, backend, clock, logged } = await createBench();
    backend.failure = quota;
    await clock.settle();
    const before = backend.creations;
    await pool.close();
    await clock.settle();
    expect(clock.pending).toBe(0);
    await clock.advance(60_000);
    expect(logged.filter(([event]) => event === 'pool_recovered')).toEqual([]);
    expect(backend.creations).toBe(before);
  });

  test('whose sandbox is lost while it is made refuses with what may be tried again, and says why', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 0, max: 1 } });
    backend.failure = new Failure('sandbox_lost', 'The pod is being deleted.');
    const refused = expect(pool.wait('a', never())).rejects.toMatchObject({
      code: 'backend_unavailable',
      retryable: true,
    });
    await clock.settle();
    await refused;
    expect(pool.trouble).toEqual({ code: 'backend_unavailable', detail: 'The pod is being deleted.' });
  });

  test('goes on trying where min asks for none, so that it learns when the trouble is over', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 0, max: 1 } });
    backend.failure = quota;
    const refused = expect(pool.wait('a', never())).rejects.toMatchObject({ code: 'quota_exceeded' });
    await clock.settle();
    await refused;
    expect(pool.capacity()).toBe(0);
    backend.failure = undefined;
    await clock.advance(60_000);
    expect(pool.trouble).toBeNull();
    expect(pool.capacity()).toBe(1);
  });

  test('serves those who wait with what it has, and says the trouble once', async () => {
    const { pool, backend, clock, logged } = await createBench({ pool: { min: 4, max: 8 } }, false);
    limitToTwo(backend);
    await clock.advance(2_000);
    expect(pool.trouble).toMatchObject({ code: 'quota_exceeded' });
    expect(pool.hopeful).toBe(true);
    let served = 0;
    const runs = Array.from({ length: 10 }, async () => {
      const loan = await pool.wait('a', never());
      served += 1;
      await loan.release('reuse');
    });
    for (let turn = 0; turn < 60 && served < runs.length; turn += 1) await clock.advance(1_000);
    await Promise.all(runs);
    expect(pool.trouble).toMatchObject({ code: 'quota_exceeded' });
    expect(logged.filter(([event]) => event === 'pool_trouble')).toHaveLength(1);
  });

  test('has room for as many executions as sandboxes wait in it', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 4, max: 8 } });
    limitToTwo(backend);
    await clock.advance(2_000);
    expect([pool.trouble?.code, pool.capacity()]).toEqual(['quota_exceeded', 2]);
    pool.take('a');
    expect(pool.capacity()).toBe(1);
    pool.take('a');
    expect(pool.capacity()).toBe(0);
  });

  test('does not try more often because executions come and go in what it has', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 4, max: 8 } });
    limitToTwo(backend);
    await clock.advance(60_000);
    const before = backend.creations;
    for (let used = 0; used < 20; used += 1) {
      await pool.take('a')?.release('reuse');
      await clock.settle();
    }
    expect(backend.creations).toBe(before);
  });

  test('has no hope longer because a sandbox that ended soon takes its time to go', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 1, max: 1 } });
    await clock.advance(POOL_BOUNDS.steadyMs - 1_000);
    backend.failure = quota;
    backend.destroyFailures = 2;
    backend.made[0]?.runner.die();
    await clock.advance(POOL_BOUNDS.hopefulMs - POOL_BOUNDS.steadyMs);
    expect(pool.hopeful).toBe(true);
    await clock.advance(1_000);
    expect([pool.trouble !== null, pool.hopeful]).toEqual([true, false]);
  });

  test('has not recovered because nothing was tried for a while', async () => {
    const { pool, backend, clock, logged } = await createBench({ pool: { min: 4, max: 8 } }, false);
    const lift = limitToTwo(backend);
    await clock.advance(2_000);
    for (let turn = 0; turn < 6; turn += 1) {
      // Programs that run for long: the pool waits longer and longer before it tries.
      const loans = [pool.take('a'), pool.take('a')];
      await clock.advance(45_000);
      for (const loan of loans) void loan?.release('reuse');
      await clock.advance(1_000);
    }
    expect(pool.trouble).toMatchObject({ code: 'quota_exceeded' });
    expect(logged.filter(([event]) => event.startsWith('pool_')).map(([event]) => event)).toEqual([
      'pool_trouble',
    ]);
    lift();
    await clock.advance(60_000);
    expect(pool.trouble).toBeNull();
  });

  test('has recovered once sandboxes are made for a while, though it never has all that it wants', async () => {
    const { pool, backend, clock, logged } = await createBench();
    backend.failure = quota;
    await clock.settle();
    expect(pool.trouble).toMatchObject({ code: 'quota_exceeded' });
    backend.failure = undefined;
    const create = backend.create.bind(backend);
    const waiting: (() => void)[] = [];
    backend.create = async (template, signal) => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      return create(template, signal);
    };
    await clock.advance(1_000);
    /** One more is made, and used at once. */
    const makeOne = async () => {
      waiting.shift()?.();
      await clock.settle();
      const loan = pool.take('a');
      expect(loan).toBeDefined();
      await loan?.release('discard');
    };
    await makeOne();
    await clock.advance(POOL_BOUNDS.steadyMs - 1);
    await makeOne();
    expect(pool.trouble).toMatchObject({ code: 'quota_exceeded' });
    await clock.advance(1);
    await makeOne();
    expect(pool.trouble).toBeNull();
    expect(logged.filter(([event]) => event === 'pool_recovered')).toHaveLength(1);
  });

  test('logs its trouble again where it is said in other words', async () => {
    const { backend, clock, logged } = await createBench();
    backend.failure = quota;
    await clock.advance(60_000);
    backend.failure = new Failure('quota_exceeded', 'Another quota is used up.');
    await clock.advance(120_000);
    const told = logged.filter(([event]) => event === 'pool_trouble').map(([, { detail }]) => detail);
    expect(told).toEqual([quota.detail, 'Another quota is used up.']);
  });

  test('refuses those who wait once nothing has lived for a while', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 1, max: 1 } });
    await clock.settle();
    backend.failure = quota;
    await clock.advance(20_000);
    const loan = pool.take('a');
    await loan?.release('discard');
    await clock.settle();
    const wait = pool.wait('a', never());
    const refused = expect(wait).rejects.toMatchObject({ code: 'quota_exceeded' });
    await clock.advance(100_000);
    await refused;
    await expect(pool.wait('a', never())).rejects.toMatchObject({ code: 'quota_exceeded' });
    expect(pool.hopeful).toBe(false);
  });

  test('keeps what names the cluster inside from those who wait, and announces it', async () => {
    const { pool, backend, clock } = await createBench();
    const detail = "The agent may not create pods in namespace 'inside'.";
    backend.failure = new Failure('backend_unavailable', detail);
    const refused = expect(pool.wait('a', never())).rejects.toMatchObject(REFUSED);
    await clock.advance(1_000);
    await refused;
    await expect(pool.wait('a', never())).rejects.toMatchObject(REFUSED);
    expect(pool.trouble).toEqual({ code: 'backend_unavailable', detail });
  });

  test('tries again at once when the backend can be reached again', async () => {
    const { pool, backend, clock } = await createBench();
    backend.failure = new Failure('backend_unavailable', 'The API server cannot be reached.');
    await clock.advance(300_000);
    expect(pool.trouble).toMatchObject({ code: 'backend_unavailable' });
    backend.failure = undefined;
    backend.reachable();
    await clock.settle();
    expect(pool.trouble).toBeNull();
    expect(pool.counts()).toMatchObject({ idle: 2 });
  });

  test('counts creations that fail together as one', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 8, max: 8 } });
    backend.failure = quota;
    await clock.settle();
    expect(backend.creations).toBe(8);
    backend.failure = undefined;
    // Half of the first wait's bound of 1 s.
    await clock.advance(500);
    expect(pool.counts()).toMatchObject({ idle: 8 });
    expect(pool.trouble).toBeNull();
  });

  test('tells those who wait why', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 0, max: 1 } });
    backend.failure = quota;
    const wait = pool.wait('a', never());
    const refused = expect(wait).rejects.toMatchObject({ code: 'quota_exceeded' });
    await clock.settle();
    await refused;
  });

  test('does not take a sandbox that lacks what the template requires', async () => {
    const { pool, backend, clock } = await createBench();
    backend.onRunner = (runner) => {
      runner.answers.ready = { ok: false, missing: ['landlock: none', 'The zygote ended.'] };
    };
    await clock.settle();
    expect(pool.trouble).toMatchObject({ code: 'isolation_failed' });
    expect(pool.trouble?.detail).toMatch(/: landlock: none; The zygote ended\.$/);
    expect(backend.alive).toEqual([]);
  });

  test('gives a runner up that is never ready', async () => {
    const { pool, backend, clock } = await createBench();
    backend.onRunner = (runner) => {
      runner.answers.ready = false;
    };
    await clock.advance(60_000);
    expect(pool.trouble).toMatchObject({ code: 'backend_unavailable' });
    expect(backend.made[0]?.destroyed).toBe(true);
  });

  test('does not spin on sandboxes that die as soon as they are made', async () => {
    const { pool, backend, clock } = await createBench();
    backend.onRunner = (runner) => setImmediate(() => setImmediate(() => runner.die()));
    await clock.advance(10_000);
    expect(backend.creations).toBeLessThan(60);
    expect(pool.counts().idle).toBeLessThanOrEqual(2);
  });

  test('does not spin on sandboxes that end soon after they are made, where their streams would be replaced', async () => {
    const { pool, backend, clock } = await createBench({}, false, true);
    await clock.settle();
    backend.end = { why: 'evicted', failure: new Failure('sandbox_lost', 'The node is short of something.') };
    backend.unreachable = true;
    for (const { runner } of backend.alive) runner.die();
    await clock.advance(1);
    expect(pool.trouble).toMatchObject({ detail: 'Sandboxes end soon after they are made.' });
    expect(backend.creations).toBe(2);
  });
});

describe('a pool whose template changes', () => {
  test('replaces what waits at once and what is taken when it comes back', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.settle();
    const loan = pool.take('a');
    await clock.settle();
    const changed = await parseTemplate({ name: 'default', pool: { min: 2, max: 4 }, preload: ['json'] });
    pool.update(changed);
    await clock.settle();
    expect(pool.counts()).toMatchObject({ condemned: 1, idle: 2 });
    expect(await loan?.release('reuse')).toBe('discarded');
    await clock.settle();
    expect(new Set(backend.alive.map(({ sandbox }) => sandbox.templateHash))).toEqual(
      new Set([changed.hash]),
    );
    expect(backend.peak).toBeLessThanOrEqual(4);
  });

  test('has no hope from sandboxes of the definition before: the new one proves itself', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.settle();
    const loan = pool.take('a');
    backend.failure = quota;
    pool.update(await parseTemplate({ name: 'default', pool: { min: 2, max: 4 }, image: 'other:1' }));
    const refused = expect(pool.wait('a', never())).rejects.toMatchObject({ code: 'quota_exceeded' });
    await clock.settle();
    await refused;
    expect([pool.counts().condemned, pool.hopeful]).toEqual([1, false]);
    await loan?.release('reuse');
    await clock.settle();
    expect(pool.hopeful).toBe(false);
    backend.failure = undefined;
    await clock.advance(60_000);
    expect([pool.trouble, pool.counts().idle]).toEqual([null, 2]);
  });

  test('leaves everything as it is when the definition is the same', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.settle();
    pool.update(await parseTemplate({ pool: { max: 4, min: 2 }, name: 'default' }));
    await clock.settle();
    expect(backend.creations).toBe(2);
  });

  test('tries another definition at once, and the same one when its time has come', async () => {
    const { pool, backend, clock } = await createBench();
    backend.failure = quota;
    await clock.advance(60_000);
    const before = backend.creations;
    backend.failure = undefined;
    pool.update(await parseTemplate({ name: 'default', pool: { min: 2, max: 4 } }));
    await clock.settle();
    expect([backend.creations - before, pool.trouble?.code]).toEqual([0, 'quota_exceeded']);
    pool.update(await parseTemplate({ name: 'default', pool: { min: 2, max: 4 }, image: 'other:1' }));
    await clock.settle();
    expect([pool.counts().idle, pool.trouble]).toEqual([2, null]);
  });
});

describe('a pool that closes', () => {
  test('destroys what waits, what is on its way and what is taken', async () => {
    const { pool, backend, clock } = await createBench();
    await clock.settle();
    const loan = pool.take('a');
    backend.hold = true;
    await clock.settle();
    const other = await pool.wait('b', never());
    const wait = pool.wait('c', never());
    const closed = pool.close();
    await expect(wait).rejects.toMatchObject({ code: 'draining' });
    loan?.release('discard');
    other.release('reuse');
    await clock.settle();
    await closed;
    expect(backend.alive).toEqual([]);
    expect(pool.take('a')).toBeUndefined();
    expect(pool.capacity()).toBe(0);
    await expect(pool.wait('a', never())).rejects.toMatchObject({ code: 'draining' });
  });

  test('waits for no creation, and for no execution that still holds a sandbox', async () => {
    const { pool, backend, clock } = await createBench({ pool: { min: 1, max: 2 } });
    await clock.settle();
    const loan = pool.take('a');
    backend.hold = true;
    await clock.settle();
    expect(pool.counts()).toMatchObject({ taken: 1, creating: 1 });
    const closed = pool.close();
    expect(pool.capacity()).toBe(0);
    expect(await loan?.runner.ended).toMatchObject({ code: 'sandbox_lost' });
    await loan?.release('discard');
    await clock.settle();
    await closed;
  });

  test('tells a stream that is on its way, and looks for no sandbox that it has given up', async () => {
    const { pool, backend, clock } = await createBench({}, false, true);
    await clock.settle();
    const signals: AbortSignal[] = [];
    backend.connect = (_sandbox, signal) => {
      signals.push(signal);
      return new Promise(() => {});
    };
    pool.renew();
    await clock.settle();
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, false]);
    const closed = pool.close();
    await clock.settle();
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    await closed;
  });

  test('ends even where the cluster does not answer', async () => {
    const { pool, backend, clock, logged } = await createBench();
    await clock.settle();
    backend.destroyFailures = 100;
    const closed = pool.close();
    await clock.advance(10_000);
    await closed;
    expect(logged.filter(([event]) => event === 'sandbox_left_behind')).toHaveLength(2);
    expect(logged).toHaveLength(2 * POOL_BOUNDS.destroyTries);
    expect(backend.alive.map(({ runner }) => runner.stream.destroyed)).toEqual([true, true]);
    expect(backend.listeners).toBe(0);
  });

  test('leaves no timer behind', async () => {
    const { pool, clock } = await createBench();
    await clock.settle();
    const closed = pool.close();
    await clock.settle();
    await closed;
    await clock.advance(200_000);
    expect(clock.pending).toBe(0);
  });
});

async function settled<T>(promise: Promise<T>, clock: FakeClock): Promise<T> {
  await clock.settle();
  return promise;
}

describe('a sandbox whose stream is lost, where the backend reconnects', () => {
  const lose = async ({ backend, clock }: Bench) => {
    for (const { runner } of backend.alive) runner.die();
    await clock.settle();
  };

  test('waits again over a new stream, and no other is made for it', async () => {
    const bench = await createBench({}, false, true);
    const { pool, backend, clock } = bench;
    await clock.settle();
    backend.unreachable = true;
    await lose(bench);
    expect(pool.counts()).toMatchObject({ unreached: 2, idle: 0 });
    expect(pool.take('a')).toBeUndefined();
    backend.unreachable = false;
    await clock.advance(10_000);
    expect(pool.counts()).toMatchObject({ unreached: 0, idle: 2 });
    expect(backend.creations).toBe(2);
    expect(pool.take('a')).toBeDefined();
  });

  test('ends the wait of a pool that could make no more: the cluster is back', async () => {
    const bench = await createBench({}, false, true);
    const { pool, backend, clock } = bench;
    await clock.advance(POOL_BOUNDS.steadyMs);
    backend.failure = quota;
    pool.take('a');
    await clock.advance(60_000);
    const before = backend.creations;
    backend.failure = undefined;
    await lose(bench);
    expect([backend.creations - before, pool.trouble]).toEqual([1, null]);
  });

  test('is given up when the backend says that it ended', async () => {
    const bench = await createBench({}, false, true);
    const { pool, backend, clock, logged } = bench;
    await clock.advance(20_000);
    backend.unreachable = true;
    backend.end = { why: 'evicted', failure: new Failure('sandbox_lost', 'The node is short of something.') };
    await lose(bench);
    await clock.advance(1_000);
    expect(backend.made.slice(0, 2).every(({ destroyed }) => destroyed)).toBe(true);
    expect(pool.counts()).toMatchObject({ idle: 2 });
    expect(logged.filter(([event]) => event === 'sandbox_discarded')).toHaveLength(2);
  });

  test('is given up when it cannot be reached for 90 seconds', async () => {
    const bench = await createBench({}, false, true);
    const { pool, backend, clock } = bench;
    await clock.settle();
    backend.unreachable = true;
    await lose(bench);
    await clock.advance(89_000);
    expect(pool.counts()).toMatchObject({ unreached: 2 });
    await clock.advance(2_000);
    expect(pool.counts()).toMatchObject({ unreached: 0, idle: 2 });
    expect(backend.creations).toBe(4);
  });
});
