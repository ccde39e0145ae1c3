import { expect, test } from 'vitest';
import { createLateBackend } from '../../agent/backends/late-backend.ts';
import { createFakeBackend } from '../fakes/fake-backend.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

/** A backend whose opening comes to its end when the test says so. */
function bench() {
  const opened = createFakeBackend();
  let closes = 0;
  const counted = {
    ...opened,
    async close() {
      closes += 1;
    },
  };
  const opening = Promise.withResolvers<typeof counted>();
  const late = createLateBackend({
    kind: 'local',
    reconnects: false,
    freshPerExecution: true,
    what: 'a cluster',
    open: () => opening.promise,
    clock: createFakeClock(),
    random: () => 0.5,
    log: () => {},
  });
  return {
    late,
    finish: () => opening.resolve(counted),
    get closes() {
      return closes;
    },
  };
}

test('a backend that opens after its owner has closed it is closed once', async () => {
  const one = bench();
  const closed = one.late.backend.close();
  one.finish();
  await closed;
  expect([one.closes, one.late.opened]).toEqual([1, undefined]);
});

test('a backend that was opened is closed once', async () => {
  const one = bench();
  one.finish();
  await one.late.backend.list();
  await one.late.backend.close();
  expect(one.closes).toBe(1);
});
