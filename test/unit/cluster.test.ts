import { expect, test } from 'vitest';
import { CLOSE_POOLS_MS, createCluster } from '../../agent/cluster.ts';
import { fixedTemplates } from '../../agent/templates/template-source.ts';
import { parseTemplate } from '../../shared/template.ts';
import { createFakeBackend } from '../fakes/fake-backend.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

test('a cluster whose sandboxes do not go ends its backend after a while, and with it', async () => {
  const clock = createFakeClock();
  const backend = createFakeBackend();
  const gaveUp = Promise.withResolvers<void>();
  backend.destroy = () => gaveUp.promise;
  const end = backend.close;
  backend.close = async () => {
    gaveUp.resolve();
    await end();
  };
  const template = await parseTemplate({ name: 'default', languages: ['python'], pool: { min: 1, max: 1 } });
  const cluster = createCluster({
    name: 'here',
    backend,
    templates: fixedTemplates(new Map([['default', template]])),
    clock,
    random: () => 0,
    log: () => {},
    onChange: () => {},
  });
  await clock.settle();
  expect(backend.alive).toHaveLength(1);
  let closed = false;
  const closing = cluster.close().then(() => {
    closed = true;
  });
  await clock.advance(CLOSE_POOLS_MS - 1);
  expect([backend.closed, closed]).toEqual([false, false]);
  await clock.advance(1);
  expect([backend.closed, closed]).toEqual([true, true]);
  await closing;
});
