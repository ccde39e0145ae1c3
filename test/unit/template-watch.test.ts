import { describe, expect, test, vi } from 'vitest';
import { NoSandbox, type Round } from '../../agent/canary/canary-round.ts';
import type { Finding } from '../../agent/canary/findings.ts';
import { guardPool } from '../../agent/canary/guarded-pool.ts';
import {
  createTemplateWatch,
  FOLLOWER_PATIENCE_MS,
  LOOK_MS,
  RETRY_BASE_MS,
  RETRY_MAX_MS,
  type Report,
} from '../../agent/canary/template-watch.ts';
import { PROVEN_FOR_MS } from '../../agent/canary/verdict.ts';
import { createPool } from '../../agent/pool/pool.ts';
import { Failure } from '../../shared/errors.ts';
import { parseTemplate, type TemplateInput } from '../../shared/template.ts';
import { createFakeBackend } from '../fakes/fake-backend.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

const EVERY_MS = 600_000;
const HOUR_MS = 3_600_000;
const HOLDS: Finding[] = [{ name: 'files.write', state: 'holds', detail: '' }];
const BROKEN: Finding[] = [{ name: 'files.token', state: 'broken', detail: '/token' }];
const never = () => new AbortController().signal;

async function bench(input: Partial<TemplateInput> = {}, refuses = true, everyMs = EVERY_MS, random = 0.5) {
  const clock = createFakeClock();
  const backend = createFakeBackend();
  const logged: string[] = [];
  const closed: Promise<void>[] = [];
  const rounds: (Round & { end: PromiseWithResolvers<readonly Finding[]> })[] = [];
  const state = { heard: null as Report | 'nothing yet' | null, changes: 0 };
  const template = await parseTemplate({ name: 'default', pool: { min: 1, max: 2 }, ...input });
  const pool = createPool({
    backend,
    clock,
    template,
    random: () => 0.5,
    log: () => {},
    onChange: () => watch?.wake(),
  });
  const watch = createTemplateWatch({
    pool,
    clock,
    random: () => random,
    log: (event) => logged.push(event),
    everyMs,
    run(round) {
      const end = Promise.withResolvers<readonly Finding[]>();
      rounds.push({ ...round, end });
      return end.promise;
    },
    heard: () => state.heard,
    onChange: () => {
      state.changes += 1;
    },
  });
  const guarded = guardPool({ pool, watch, refuses, onClosed: (over) => closed.push(over) });
  const finish = async (findings: readonly Finding[] | Error) => {
    const round = rounds.at(-1);
    if (findings instanceof Error) round?.end.reject(findings);
    else round?.end.resolve(findings);
    await clock.settle();
  };
  await clock.settle();
  return { clock, backend, logged, closed, rounds, state, pool, watch, guarded, finish, template };
}

describe('a template whose first canary is under way', () => {
  test('holds work until the verdict, and serves it then', async () => {
    const { guarded, pool, rounds, clock, finish } = await bench();
    expect(rounds).toHaveLength(1);
    expect(pool.capacity()).toBe(2);
    expect({ capacity: guarded.capacity(), taken: guarded.take('a'), trouble: guarded.trouble }).toEqual({
      capacity: 0,
      taken: undefined,
      trouble: null,
    });
    const waiting = guarded.wait('a', never());
    await clock.advance(100);
    expect(pool.counts().taken).toBe(0);
    await finish(HOLDS);
    expect((await waiting).sandboxId).toBe('sandbox-1');
    expect(guarded.capacity()).toBe(1);
  });

  test('refuses at once who waits for the verdict when the agent shuts down', async () => {
    const { guarded, clock } = await bench();
    const refused = vi.fn();
    guarded.wait('a', never()).catch(refused);
    await clock.settle();
    void guarded.close();
    await clock.settle();
    expect(refused.mock.calls).toMatchObject([[{ code: 'draining' }]]);
  });

  test('serves as soon as the sandbox itself is proven', async () => {
    const { guarded, rounds, watch } = await bench();
    rounds[0]?.onSandbox(HOLDS);
    expect(guarded.capacity()).toBe(2);
    expect(watch.report?.findings).toEqual(HOLDS);
  });

  test('that requires more of the cluster’s network waits for that too, and takes no guess for it', async () => {
    const { guarded, rounds, finish } = await bench({ require: ['seccomp', 'network_policy'] });
    rounds[0]?.onSandbox(HOLDS);
    expect(guarded.capacity()).toBe(0);
    await finish([...HOLDS, { name: 'policy.internet', state: 'unknown', detail: '' }]);
    expect(guarded.trouble?.code).toBe('isolation_failed');
  });

  test('refuses work when its waiter leaves or its pool is in trouble, for their reasons', async () => {
    const { guarded, backend, clock } = await bench({ pool: { min: 1, max: 2 } });
    const gone = new AbortController();
    const waiting = guarded.wait('a', gone.signal);
    gone.abort(new Error('left'));
    await expect(waiting).rejects.toThrow('left');
    backend.failure = new Failure('image_error', 'no image');
    const refused = guarded.wait('b', never());
    refused.catch(() => {});
    guarded.update(await parseTemplate({ name: 'default', preload: ['json'], pool: { min: 1, max: 2 } }));
    await clock.advance(60_000);
    await expect(refused).rejects.toMatchObject({ code: 'image_error' });
  });
});

describe('a template whose promise does not hold', () => {
  test('refuses work with one clear sentence, and serves again when a later canary holds, with new sandboxes', async () => {
    const { guarded, finish, clock, rounds, logged, backend } = await bench();
    await finish(BROKEN);
    expect(guarded.trouble).toEqual({
      code: 'isolation_failed',
      detail: "The isolation that template 'default' promises does not hold here (files.token).",
    });
    expect(guarded.capacity()).toBe(0);
    await expect(guarded.wait('a', never())).rejects.toMatchObject({ code: 'isolation_failed' });
    const before = backend.alive.map(({ sandbox }) => sandbox.id);
    await clock.advance(RETRY_MAX_MS);
    expect(rounds).toHaveLength(2);
    await finish(HOLDS);
    await clock.advance(10);
    expect(guarded.trouble).toBeNull();
    expect(guarded.capacity()).toBe(2);
    for (const { sandbox } of backend.alive) expect(before).not.toContain(sandbox.id);
    expect(logged).toEqual([
      'isolation_refuses',
      'isolation_checked',
      'isolation_holds_again',
      'isolation_checked',
    ]);
  });

  test('only says so where the policy is to report', async () => {
    const { guarded, finish, watch } = await bench({}, false);
    expect(guarded.capacity()).toBe(2);
    await finish(BROKEN);
    expect(guarded.capacity()).toBe(2);
    expect(guarded.trouble).toBeNull();
    expect(watch.report?.findings).toEqual(BROKEN);
  });

  test('is said in the log once, however often it is found', async () => {
    const { finish, clock, logged, rounds } = await bench();
    await finish(BROKEN);
    for (let round = 0; round < 5; round += 1) {
      await clock.advance(RETRY_MAX_MS);
      await finish(BROKEN);
    }
    expect(rounds.length).toBeGreaterThan(4);
    expect(logged).toEqual(['isolation_refuses', 'isolation_checked']);
  });
});

describe('canaries', () => {
  test('run again after their time and not before', async () => {
    const { rounds, finish, clock } = await bench();
    await finish(HOLDS);
    await clock.advance(EVERY_MS - 1);
    expect(rounds).toHaveLength(1);
    await clock.advance(1);
    expect(rounds).toHaveLength(2);
  });

  test('that come to no end prove nothing: what was proven is believed for a while, and then no more', async () => {
    const { guarded, finish, clock, rounds } = await bench();
    await finish(HOLDS);
    await clock.advance(EVERY_MS);
    await finish(new Failure('isolation_failed', 'The canary came to no end.'));
    expect(guarded.capacity()).toBe(2);
    const started = rounds.length;
    await clock.advance(RETRY_MAX_MS);
    expect(rounds.length).toBeGreaterThan(started);
    // One hangs for good.
    await clock.advance(PROVEN_FOR_MS - EVERY_MS - RETRY_MAX_MS);
    expect(guarded.capacity()).toBe(2);
    await clock.advance(LOOK_MS + 1);
    expect(guarded.capacity()).toBe(0);
    expect(guarded.trouble?.detail).toContain('not proven for too long');
  });

  test('that cannot try the network which a template requires prove nothing either, and are soon made again', async () => {
    const { guarded, finish, clock, rounds } = await bench({ require: ['seccomp', 'network_policy'] });
    const tried = (state: Finding['state']) => [...HOLDS, { name: 'policy.internet', state, detail: '' }];
    await finish(tried('holds'));
    const provenMs = clock.now();
    await clock.advance(EVERY_MS);
    await finish(tried('unknown'));
    expect(guarded.capacity()).toBe(2);
    while (clock.now() - provenMs < PROVEN_FOR_MS - RETRY_MAX_MS) {
      const before = rounds.length;
      await clock.advance(RETRY_MAX_MS);
      expect(rounds.length).toBeGreaterThan(before);
      await finish(tried('unknown'));
    }
    expect(guarded.capacity()).toBe(2);
    await clock.advance(RETRY_MAX_MS + LOOK_MS + 1);
    expect(guarded.trouble?.detail).toContain('not proven for too long');
    await finish(tried('holds'));
    expect(guarded.capacity()).toBe(2);
  });

  test('that are rarer than what is proven is believed for leave it believed until the next has had its time', async () => {
    const { guarded, finish, clock, rounds } = await bench({}, true, PROVEN_FOR_MS);
    await finish(HOLDS);
    await clock.advance(PROVEN_FOR_MS);
    expect(rounds).toHaveLength(2);
    await clock.advance(PROVEN_FOR_MS);
    expect(guarded.capacity()).toBe(2);
    await clock.advance(LOOK_MS + 1);
    expect(guarded.trouble?.detail).toContain('not proven for too long');
  });

  test('that fail at first leave the template refused, and it serves when one holds', async () => {
    const { guarded, finish, clock, logged } = await bench();
    await finish(new Failure('isolation_failed', 'The canary came to no end of its own (signaled).'));
    expect(guarded.trouble?.detail).toContain('could not be tested here: The canary came to no end');
    await clock.advance(RETRY_MAX_MS);
    await finish(HOLDS);
    expect(guarded.trouble).toBeNull();
    expect(logged).toContain('canary_failed');
  });

  test('that fail name nothing of the cluster to callers', async () => {
    const { guarded, finish } = await bench();
    await finish(new Failure('backend_unavailable', 'The API server at 10.0.0.1 does not answer.'));
    expect(guarded.trouble?.detail).toBe(
      "The isolation that template 'default' promises could not be tested here: The cluster cannot be reached or used now.",
    );
  });

  test('that find something broken are not made again at once, whatever chance says', async () => {
    const { finish, rounds, clock } = await bench({}, true, EVERY_MS, 0);
    await finish(BROKEN);
    await clock.advance(RETRY_BASE_MS / 2 - 1);
    expect(rounds).toHaveLength(1);
    await clock.advance(1);
    expect(rounds).toHaveLength(2);
  });

  test('leave what was found of the network until it is tried again', async () => {
    const { finish, rounds, clock, watch } = await bench();
    const policy: Finding = { name: 'policy.internet', state: 'broken', detail: '' };
    await finish([...HOLDS, policy]);
    await clock.advance(EVERY_MS);
    rounds[1]?.onSandbox(HOLDS);
    expect(watch.report?.findings).toEqual([...HOLDS, policy]);
  });

  test.for([
    ['held', HOLDS],
    ['was broken', BROKEN],
    ['failed', new Failure('isolation_failed', 'The canary came to no end.')],
  ] as const)(
    'of a template that changed say nothing of the new one: that the old one %s',
    async ([, end]) => {
      const { guarded, rounds, clock, watch } = await bench();
      guarded.update(await parseTemplate({ name: 'default', pool: { min: 1, max: 2 }, preload: ['json'] }));
      if (end instanceof Error) rounds[0]?.end.reject(end);
      else rounds[0]?.end.resolve(end);
      await clock.settle();
      expect([watch.verdict, watch.report]).toEqual([{ phase: 'pending' }, null]);
    },
  );

  test('that found no sandbox leave the word to the pool, and run when it has one', async () => {
    const { guarded, finish, rounds, backend, clock, pool } = await bench();
    await finish(new NoSandbox('image_error', 'no image'));
    expect(guarded.trouble).toBeNull();
    expect(rounds).toHaveLength(1);
    pool.renew();
    await clock.advance(10);
    expect(backend.creations).toBeGreaterThan(1);
    expect(rounds).toHaveLength(2);
  });

  test('of a template that changed end, and the new one waits for its own', async () => {
    const { guarded, finish, rounds, clock, watch } = await bench();
    await finish(HOLDS);
    guarded.update(await parseTemplate({ name: 'default', pool: { min: 1, max: 2 }, preload: ['json'] }));
    expect(guarded.capacity()).toBe(0);
    expect(watch.report).toBeNull();
    await clock.advance(10);
    expect(rounds).toHaveLength(2);
    guarded.update(await parseTemplate({ name: 'default', pool: { min: 1, max: 2 } }));
    expect(rounds[1]?.signal.aborted).toBe(true);
    rounds[1]?.onSandbox(HOLDS);
    expect(guarded.capacity()).toBe(0);
    await clock.advance(10);
    await finish(HOLDS);
    expect(guarded.capacity()).toBe(2);
  });

  test('end with their pool', async () => {
    const { guarded, rounds, finish, clock, closed } = await bench();
    const closing = guarded.close();
    expect(rounds[0]?.signal.aborted).toBe(true);
    let isOver = false;
    void closed[0]?.then(() => {
      isOver = true;
    });
    await clock.settle();
    expect(isOver).toBe(false);
    await finish(new Error('over'));
    await clock.settle();
    await closing;
    expect(isOver).toBe(true);
    await clock.advance(EVERY_MS);
    expect(rounds).toHaveLength(1);
  });
});

describe('an agent that does not lead', () => {
  test('takes the word of the one that does, and runs no canary', async () => {
    const { guarded, state, rounds, clock, finish, watch } = await bench();
    await finish(HOLDS);
    state.heard = { atMs: clock.wall() + 1, findings: BROKEN };
    await clock.advance(LOOK_MS);
    expect(watch.report?.findings).toEqual(BROKEN);
    expect(guarded.trouble?.code).toBe('isolation_failed');
    state.heard = { atMs: clock.wall(), findings: HOLDS };
    await clock.advance(LOOK_MS);
    expect(guarded.trouble).toBeNull();
    expect(rounds).toHaveLength(1);
  });

  test('takes no word that is older than its own', async () => {
    const { guarded, state, clock, finish, watch } = await bench();
    await finish(BROKEN);
    state.heard = { atMs: (watch.report?.atMs ?? 0) - 1, findings: HOLDS };
    await clock.advance(LOOK_MS);
    expect(guarded.trouble?.code).toBe('isolation_failed');
  });

  test.for([-1_000_000, 3_600_000])(
    'believes a word %i ms from now for its own time, and never longer',
    async (apartMs) => {
      const { guarded, state, clock, finish } = await bench();
      await finish(new Failure('isolation_failed', 'The canary came to no end.'));
      state.heard = { atMs: clock.wall() + apartMs, findings: HOLDS };
      await clock.advance(LOOK_MS);
      // It leads now, and its own canary hangs.
      state.heard = null;
      await clock.advance(PROVEN_FOR_MS + Math.min(0, apartMs) - 3 * LOOK_MS);
      expect(guarded.capacity()).toBe(2);
      await clock.advance(5 * LOOK_MS);
      expect(guarded.capacity()).toBe(0);
    },
  );

  test('looks itself at its usual time when the one that led, whose clock is an hour ahead, is gone', async () => {
    const { guarded, state, rounds, clock, finish, watch } = await bench();
    await finish(HOLDS);
    state.heard = { atMs: clock.wall() + HOUR_MS, findings: HOLDS };
    await clock.advance(LOOK_MS);
    expect(watch.report?.atMs).toBeLessThanOrEqual(clock.wall());
    state.heard = null;
    await clock.advance(EVERY_MS + LOOK_MS);
    expect(rounds).toHaveLength(2);
    await finish(HOLDS);
    await clock.advance(EVERY_MS - 2 * LOOK_MS);
    expect(guarded.capacity()).toBe(2);
  });

  test.for(['the one that leads has its clock', 'it has its own'])(
    'goes on hearing the one that leads when %s set back by an hour',
    async (whose) => {
      const { guarded, state, rounds, clock, watch, finish } = await bench();
      await finish(HOLDS);
      const aheadMs = whose.startsWith('the one') ? HOUR_MS : 0;
      for (let heard = 0; heard < 5; heard += 1) {
        if (heard === 1 && aheadMs === 0) clock.jump(-HOUR_MS);
        state.heard = { atMs: clock.wall() + (heard === 0 ? aheadMs : 0), findings: HOLDS };
        await clock.advance(EVERY_MS);
      }
      expect(guarded.capacity()).toBe(2);
      state.heard = { atMs: clock.wall(), findings: BROKEN };
      await clock.advance(LOOK_MS);
      expect(watch.report?.findings).toEqual(BROKEN);
      expect(rounds).toHaveLength(1);
    },
  );

  test('looks itself when the one that leads, whose clock is an hour ahead, finds nothing any more', async () => {
    const { guarded, state, rounds, clock, finish } = await bench();
    await finish(HOLDS);
    state.heard = { atMs: clock.wall() + HOUR_MS, findings: HOLDS };
    await clock.advance(2 * EVERY_MS + RETRY_MAX_MS + 2 * LOOK_MS);
    expect(rounds).toHaveLength(2);
    await finish(HOLDS);
    await clock.advance(EVERY_MS - LOOK_MS);
    expect(guarded.capacity()).toBe(2);
  });

  test('waits for a first word, and looks itself when none comes', async () => {
    const one = await bench();
    one.state.heard = 'nothing yet';
    one.guarded.update(await parseTemplate({ name: 'default', pool: { min: 1, max: 2 }, preload: ['json'] }));
    const before = one.rounds.length;
    await one.clock.advance(FOLLOWER_PATIENCE_MS - 1);
    expect(one.rounds).toHaveLength(before);
    await one.clock.advance(1);
    expect(one.rounds).toHaveLength(before + 1);
  });

  test('looks itself when the other’s word is old', async () => {
    const { state, rounds, clock, finish } = await bench();
    await finish(HOLDS);
    state.heard = { atMs: clock.wall() + 1, findings: HOLDS };
    await clock.advance(EVERY_MS);
    expect(rounds).toHaveLength(1);
    await clock.advance(EVERY_MS + RETRY_MAX_MS + LOOK_MS);
    expect(rounds).toHaveLength(2);
  });
});
