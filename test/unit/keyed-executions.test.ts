import { expect, test, vi } from 'vitest';
import type { ExecutionOrder } from '../../gateway/execution/execution-order.ts';
import type { ExecutionRun } from '../../gateway/execution/execution-run.ts';
import { KeyedExecutions } from '../../gateway/execution/keyed-executions.ts';

const orderOf = (release: () => void) =>
  ({ wanted: { caller: { principal: 'acme/ada' } }, release }) as unknown as ExecutionOrder;

test('a request beyond the keys that a gateway remembers holds no memory on', async () => {
  const run = { opened: Promise.resolve(), executionId: 'one', abandon: () => {} };
  const keyed = new KeyedExecutions({
    elapsed: () => 0,
    start: () => run as unknown as ExecutionRun,
    follow: () => Promise.reject(new Error('nobody repeats')),
    maxKeys: 1,
  });
  const [first, second] = [vi.fn(), vi.fn()];
  expect(await keyed.open(orderOf(first), { text: 'a', digest: 'a' })).toBe(run);
  await expect(keyed.open(orderOf(second), { text: 'b', digest: 'b' })).rejects.toMatchObject({
    code: 'at_capacity',
  });
  expect([first.mock.calls.length, second.mock.calls.length]).toEqual([0, 1]);
});
