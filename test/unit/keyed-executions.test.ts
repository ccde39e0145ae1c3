import { expect, test, vi } from 'vitest';
import type { ExecutionFollower } from '../../gateway/execution/execution-follower.ts';
import type { ExecutionOrder } from '../../gateway/execution/execution-order.ts';
import type { ExecutionRun } from '../../gateway/execution/execution-run.ts';
import { KeyedExecutions } from '../../gateway/execution/keyed-executions.ts';
import { Failure } from '../../shared/errors.ts';

const orderOf = (release: () => void, tenant = 'acme') =>
  ({ wanted: { caller: { tenant, principal: `${tenant}/ada` } }, release }) as unknown as ExecutionOrder;

const { signal } = new AbortController();

test('a request beyond the keys that a gateway remembers holds no memory on', async () => {
  const run = { opened: Promise.resolve(), executionId: 'one', abandon: () => {} };
  const keyed = new KeyedExecutions({
    elapsed: () => 0,
    start: () => run as unknown as ExecutionRun,
    follow: () => Promise.reject(new Error('nobody repeats')),
    maxKeys: 1,
  });
  const [first, second] = [vi.fn(), vi.fn()];
  expect(await keyed.open(orderOf(first), { text: 'a', digest: 'a' }, signal)).toBe(run);
  await expect(keyed.open(orderOf(second), { text: 'b', digest: 'b' }, signal)).rejects.toMatchObject({
    code: 'at_capacity',
  });
  expect([first.mock.calls.length, second.mock.calls.length]).toEqual([0, 1]);
});

test('requests with one key that come at once begin one execution, and the others give their orders back', async () => {
  const run = { opened: Promise.resolve(), executionId: 'one', abandon: () => {} } as unknown as ExecutionRun;
  const follower = {} as ExecutionFollower;
  const start = vi.fn(() => run);
  const keyed = new KeyedExecutions({ elapsed: () => 0, start, follow: async () => follower });
  const releases = [vi.fn(), vi.fn(), vi.fn()];
  const key = { text: 'a', digest: 'a' };
  const opened = await Promise.all(releases.map((release) => keyed.open(orderOf(release), key, signal)));
  expect(start).toHaveBeenCalledTimes(1);
  // Whose digest is there first is not said.
  const isFirst = opened.map((each) => each === run);
  expect(isFirst.filter(Boolean)).toHaveLength(1);
  expect(opened).toEqual(isFirst.map((is) => (is ? run : follower)));
  expect(releases.map(({ mock }) => mock.calls.length)).toEqual(isFirst.map((is) => (is ? 0 : 1)));
});

test('a request that cannot even begin leaves its key new, and gives its order back', async () => {
  const run = { opened: Promise.resolve(), executionId: 'one', abandon: () => {} } as unknown as ExecutionRun;
  const draining = new Failure('draining', 'The gateway ends.');
  const start = vi.fn(() => run);
  start.mockImplementationOnce(() => {
    throw draining;
  });
  const keyed = new KeyedExecutions({
    elapsed: () => 0,
    start,
    follow: () => Promise.reject(new Error('nobody repeats')),
    maxKeys: 1,
  });
  const [first, second] = [vi.fn(), vi.fn()];
  const key = { text: 'a', digest: 'a' };
  await expect(keyed.open(orderOf(first), key, signal)).rejects.toBe(draining);
  expect(await keyed.open(orderOf(second), key, signal)).toBe(run);
  expect([first.mock.calls.length, second.mock.calls.length]).toEqual([1, 0]);
});

test('a tenant that uses many keys has its own oldest forgotten, and the other’s stand for what they stood for', async () => {
  const follower = {} as ExecutionFollower;
  const start = vi.fn((order: ExecutionOrder) => {
    order.onSettled?.(null);
    return { opened: Promise.resolve(), executionId: 'x', abandon: () => {} } as unknown as ExecutionRun;
  });
  const follow = async () => follower;
  const keyed = new KeyedExecutions({ elapsed: () => 0, start, follow, maxKeys: 4, maxKeysPerTenant: 2 });
  const ask = (tenant: string, text: string) =>
    keyed.open(
      orderOf(() => {}, tenant),
      { text, digest: 'd' },
      signal,
    );
  await ask('globex', 'theirs');
  for (const text of ['a', 'b', 'c', 'd', 'e']) await ask('acme', text);
  expect(start).toHaveBeenCalledTimes(6);
  expect(await ask('globex', 'theirs')).toBe(follower);
  expect(await ask('acme', 'd')).toBe(follower);
  await ask('acme', 'a');
  expect(start).toHaveBeenCalledTimes(7);
});

test.each([
  { started: 'no', code: 'at_capacity', retryable: true, begins: 2 },
  { started: 'unknown', code: 'maybe_started', retryable: false, begins: 1 },
] as const)(
  'whoever waits on a key whose first request was revoked (started: $started) is not told that its own key is',
  async ({ started, code, retryable, begins }) => {
    const opened = Promise.withResolvers<void>();
    const revoked = new Failure('unauthorized', 'The key is no longer accepted.', { started });
    let settle: ExecutionOrder['onSettled'];
    const start = vi.fn((order: ExecutionOrder) => {
      settle = order.onSettled;
      return { opened: opened.promise, executionId: '', abandon: () => {} } as unknown as ExecutionRun;
    });
    const keyed = new KeyedExecutions({ elapsed: () => 0, start, follow: () => Promise.reject(revoked) });
    const key = { text: 'a', digest: 'a' };
    const first = keyed.open(orderOf(vi.fn()), key, signal);
    await vi.waitFor(() => expect(start).toHaveBeenCalledTimes(1));
    const second = keyed.open(orderOf(vi.fn()), key, signal);
    opened.reject(revoked);
    settle?.(revoked);
    await expect(first).rejects.toBe(revoked);
    await expect(second).rejects.toMatchObject({ code, retryable });
    await expect(keyed.open(orderOf(vi.fn()), key, signal)).rejects.toBeInstanceOf(Failure);
    expect(start).toHaveBeenCalledTimes(begins);
  },
);
