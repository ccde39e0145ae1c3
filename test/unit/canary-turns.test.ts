import { describe, expect, test } from 'vitest';
import { CANARIES_AT_ONCE, createCanary } from '../../agent/canary/canary.ts';
import type { Round } from '../../agent/canary/canary-round.ts';
import { RETRY_MAX_MS } from '../../agent/canary/template-watch.ts';
import { YIELD_LOOK_MS } from '../../agent/canary/turns.ts';
import { createPool } from '../../agent/pool/pool.ts';
import { parseTemplate } from '../../shared/template.ts';
import { createFakeBackend } from '../fakes/fake-backend.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

/** A cluster's templates, each on a backend of its own whose sandboxes may be slow to come. */
async function openTemplates() {
  const clock = createFakeClock();
  const rounds = new Map<string, number>();
  const backend = createFakeBackend();
  /** Borrows a sandbox and comes to its end, as a canary does that cannot make one. */
  async function run(_deps: unknown, { template, pool, signal }: Round): Promise<[]> {
    rounds.set(template.name, (rounds.get(template.name) ?? 0) + 1);
    const loan = await pool.wait('canary', signal);
    await loan.release('reuse');
    return [];
  }
  const common = { clock, random: () => 0.5, log: () => {}, onChange: () => {} };
  const canary = createCanary({ ...common, backend, run, policy: 'refuse', everyMs: 600_000, targets: {} });

  async function add(name: string, isHeld: boolean) {
    const own = createFakeBackend();
    own.hold = isHeld;
    const template = await parseTemplate({ name, pool: { min: 1, max: 1 } });
    const onChange = () => canary.wake(name);
    const pool = canary.guard(createPool({ ...common, onChange, backend: own, template }));
    return { own, pool };
  }
  return { clock, canary, rounds, add };
}

test('every template is looked at in its turn, and nothing is left of a turn', async () => {
  const { clock, canary, rounds, add } = await openTemplates();
  const names = Array.from({ length: 2 * CANARIES_AT_ONCE + 1 }, (_, n) => `good-${n}`);
  for (const name of names) await add(name, false);
  await clock.settle();
  expect(canary.rounds).toEqual({ reported: names.length, failed: 0 });
  const { pending } = clock;
  await clock.advance(600_000);
  await clock.settle();
  expect([...rounds]).toEqual(names.map((name) => [name, 2]));
  expect(clock.pending).toBe(pending);
});

describe('a template whose sandboxes do not come', () => {
  test('keeps no other from being looked at', async () => {
    const { clock, canary, rounds, add } = await openTemplates();
    for (let n = 0; n < 2 * CANARIES_AT_ONCE; n += 1) await add(`held-${n}`, true);
    await clock.settle();
    await add('good', false);
    await clock.advance(YIELD_LOOK_MS);
    expect([...rounds].slice(0, 3)).toEqual([
      ['held-0', 1],
      ['held-1', 1],
      ['good', 1],
    ]);
    await clock.settle();
    expect(canary.isolation('good')).not.toBeNull();
    expect(canary.rounds).toEqual({ reported: 1, failed: 0 });
  });

  test('is looked at as soon as they are there', async () => {
    const { clock, canary, add } = await openTemplates();
    const held = [];
    for (let n = 0; n < CANARIES_AT_ONCE; n += 1) held.push(await add(`held-${n}`, true));
    await add('good', false);
    await clock.advance(RETRY_MAX_MS);
    expect(canary.isolation('held-0')).toBeNull();
    for (const { own } of held) own.release();
    await clock.advance(RETRY_MAX_MS);
    expect(canary.isolation('held-0')).not.toBeNull();
  });

  test('keeps nobody from being closed, although both turns are taken', async () => {
    const { clock, canary, add } = await openTemplates();
    for (let n = 0; n < CANARIES_AT_ONCE; n += 1) await add(`held-${n}`, true);
    const { pool } = await add('last', false);
    await clock.settle();
    void pool.close();
    await clock.settle();
    let ended = false;
    void canary.ended().then(() => {
      ended = true;
    });
    await clock.settle();
    expect(ended).toBe(true);
  });

  test('keeps its turn where nobody can use it', async () => {
    const { clock, rounds, add } = await openTemplates();
    for (let n = 0; n <= CANARIES_AT_ONCE; n += 1) await add(`held-${n}`, true);
    await clock.advance(RETRY_MAX_MS);
    expect([...rounds.values()]).toEqual(Array.from({ length: CANARIES_AT_ONCE }, () => 1));
  });
});
