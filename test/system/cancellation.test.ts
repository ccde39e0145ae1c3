import { expect, test } from 'vitest';
import type { ExecutionStatus } from '../../client/types.ts';
import type { HeldRun } from '../fakes/held-run.ts';
import { describeStack } from './suite.ts';

const PATIENCE_MS = 40_000;

/** As its runner says it, or its agent where the runner was too slow to. */
const endOf = ({ result, failure }: ExecutionStatus) => result?.outcome ?? failure?.code;

describeStack('A program that has begun', {}, (stack) => {
  const id = ({ executionId }: HeldRun) => `/v1/executions/${executionId}`;
  const detached = (request: object = {}) => stack().hold({ detach: true, ...request });

  test.for([
    ['its caller who leaves', () => stack().hold(), (held: HeldRun) => held.leave()],
    ['DELETE', () => stack().hold(), (held: HeldRun) => stack().fetch(id(held), { method: 'DELETE' })],
    [
      'DELETE, its caller gone already',
      async () => {
        const held = await detached();
        await held.leave();
        return held;
      },
      (held: HeldRun) => stack().fetch(id(held), { method: 'DELETE' }),
    ],
    ['its timeout', () => stack().hold({ timeout_ms: 2_000 }), () => undefined],
    [
      'its timeout, its caller gone already',
      async () => {
        const held = await detached({ timeout_ms: 2_000 });
        await held.leave();
        return held;
      },
      () => undefined,
    ],
  ] as const)(
    'is ended by %s, with all that it started, and its record says so',
    { timeout: PATIENCE_MS },
    async ([how, hold, end]) => {
      await using held = await hold();
      expect(held.alive()).toBe(1);
      await end(held);
      await expect.poll(() => held.alive(), { timeout: PATIENCE_MS / 2 }).toBe(0);
      const outcome = how.includes('timeout') ? 'timed_out' : 'cancelled';
      await expect
        .poll(async () => endOf(await stack().podgate.executions.get(held.executionId)), {
          timeout: PATIENCE_MS / 2,
        })
        .toBe(outcome);
    },
  );

  test('is left alone by its caller’s leaving where it has a key or detach', async () => {
    const kept = [
      await detached({ timeout_ms: 60_000 }),
      await stack().hold({}, { headers: { 'idempotency-key': 'kept' } }),
    ];
    for (const held of kept) await held.leave();
    await stack().run('import time; time.sleep(1)');
    expect(kept.map((held) => held.alive())).toEqual([1, 1]);
    for (const held of kept) await stack().podgate.executions.cancel(held.executionId);
    expect(kept.map((held) => held.alive())).toEqual([0, 0]);
  });
});
